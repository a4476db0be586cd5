"""Relational knowledge distillation (Park et al.): distances and angles between the embeddings of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision

_SMALLEST_SQUARE = 1e-12  # as released: squared distances are at least this
_SMALLEST_DISTANCE = 1e-12  # as released: below it two embeddings have no direction
# A squared distance below this part of the two squared norms is mostly rounding error of the scalar products.
_CANCELLED = 1e-5


@full_precision
def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 (mean over all B x B pairs) between Euclidean distances, each divided by its batch's mean distance.

    Source: `distiller_zoo/RKD.py` of HobbitLong/RepDistiller, weight 25 there.

    Args:
        student, teacher: embeddings (B, D) and (B, D').

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 for a single image, which has no relation.
    """
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


@full_precision
def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 (mean over all B x B x B triplets) between the cosines of the angles at i from j to k.

    Source, arguments and result as for `distance_loss`; weight 50 there. The angles are computed from scalar products,
    which saves the B^2 D numbers of the differences. The differences are used, as released, where two embeddings of the
    batch are so near each other that scalar products cannot tell them apart.
    """
    return F.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _gram(embeddings: Tensor) -> Tensor:
    # Neither distances nor angles change with the origin; at the mean, the products lose the fewest digits.
    centred = embeddings - embeddings.mean(0)
    return centred @ centred.T


def _squared_distances(gram: Tensor) -> Tensor:
    squares = gram.diagonal()
    return squares[:, None] + squares[None, :] - 2 * gram


def _relative_distances(embeddings: Tensor) -> Tensor:
    batch = len(embeddings)
    distances = _squared_distances(_gram(embeddings)).clamp(min=_SMALLEST_SQUARE).sqrt()
    distances = distances.masked_fill(torch.eye(batch, dtype=torch.bool, device=distances.device), 0.0)
    # Distances are 1e-6 or more: the sum is below the bound only where there is no pair.
    return distances * (batch * (batch - 1)) / distances.sum().clamp(min=_SMALLEST_SQUARE)


def _cosines(embeddings: Tensor) -> Tensor:
    gram = _gram(embeddings)
    squares = _squared_distances(gram)
    apart = ~torch.eye(len(gram), dtype=torch.bool, device=gram.device)
    norms = gram.diagonal()
    near = squares <= (_CANCELLED * (norms[:, None] + norms[None, :])).clamp(min=_SMALLEST_DISTANCE**2)
    if gram.device.type == "cpu":
        return _from_differences(embeddings) if (near & apart).any() else _from_products(gram, squares, apart)
    # To ask whether there are any would synchronise with a GPU: it computes both.
    products = _from_products(gram, squares, apart & ~near)
    return torch.where((near & apart).any(), _from_differences(embeddings), products)


def _from_differences(embeddings: Tensor) -> Tensor:
    differences = embeddings[None] - embeddings[:, None]
    lengths = differences.norm(dim=2, keepdim=True)
    # Two embeddings at one point have no direction; their cosines are 0, as is the gradient through them.
    directions = torch.where(lengths > _SMALLEST_DISTANCE, differences / lengths.clamp(min=_SMALLEST_DISTANCE), 0.0)
    return directions @ directions.transpose(1, 2)


def _from_products(gram: Tensor, squares: Tensor, apart: Tensor) -> Tensor:
    inverse = torch.where(apart, squares.where(apart, 1.0).rsqrt(), 0.0)
    # (e_j - e_i).(e_k - e_i), anchors i first
    products = gram[None] - gram[:, :, None] - gram[:, None, :] + gram.diagonal()[:, None, None]
    return products * inverse[:, :, None] * inverse[:, None, :]
