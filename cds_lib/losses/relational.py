"""Relational knowledge distillation (Park et al.): distances and angles between the embeddings of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision

_SMALLEST_SQUARE = 1e-12  # as released: lower bound of squared distances
_SMALLEST_DISTANCE = 1e-12  # as released: embeddings that are closer have no direction
# Below this fraction of the two squared norms, a squared distance is mostly rounding error of scalar products.
_CANCELLED = 1e-5


@full_precision
def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the smooth L1 loss (mean over all B x B pairs) of distances divided by the mean distance of their batch.

    Distances are Euclidean. Source: `distiller_zoo/RKD.py` of HobbitLong/RepDistiller, where the weight is 25.

    Args:
        student, teacher: embeddings (B, D) and (B, D').

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 for a single image, which has no pairs.
    """
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


@full_precision
def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the smooth L1 loss (mean over all B x B x B triplets) of the cosines of the angles at i between j and k.

    Source, arguments and result are as for `distance_loss`; the weight there is 50. Angles are computed from scalar
    products, which saves the B^2 D numbers of the differences. The differences are used, as released, if two embeddings
    of the batch are so close that scalar products cannot distinguish them.
    """
    return F.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _gram(embeddings: Tensor) -> Tensor:
    # Distances and angles do not depend on the origin. With the mean as origin, the products lose the fewest digits.
    centred = embeddings - embeddings.mean(0)
    return centred @ centred.T


def _squared_distances(gram: Tensor) -> Tensor:
    squares = gram.diagonal()
    return squares[:, None] + squares[None, :] - 2 * gram


def _relative_distances(embeddings: Tensor) -> Tensor:
    batch = len(embeddings)
    distances = _squared_distances(_gram(embeddings)).clamp(min=_SMALLEST_SQUARE).sqrt()
    distances = distances.masked_fill(torch.eye(batch, dtype=torch.bool, device=distances.device), 0.0)
    # Distances are at least 1e-6, so the sum is below the bound only if there are no pairs.
    return distances * (batch * (batch - 1)) / distances.sum().clamp(min=_SMALLEST_SQUARE)


def _cosines(embeddings: Tensor) -> Tensor:
    gram = _gram(embeddings)
    squares = _squared_distances(gram)
    apart = ~torch.eye(len(gram), dtype=torch.bool, device=gram.device)
    norms = gram.diagonal()
    near = squares <= (_CANCELLED * (norms[:, None] + norms[None, :])).clamp(min=_SMALLEST_DISTANCE**2)
    if gram.device.type == "cpu":
        return _from_differences(embeddings) if (near & apart).any() else _from_products(gram, squares, apart)
    # Checking for near pairs would synchronise with a GPU, so a GPU computes both.
    products = _from_products(gram, squares, apart & ~near)
    return torch.where((near & apart).any(), _from_differences(embeddings), products)


def _from_differences(embeddings: Tensor) -> Tensor:
    differences = embeddings[None] - embeddings[:, None]
    lengths = differences.norm(dim=2, keepdim=True)
    # Two equal embeddings have no direction: their cosines are 0, and so is the gradient through them.
    directions = torch.where(lengths > _SMALLEST_DISTANCE, differences / lengths.clamp(min=_SMALLEST_DISTANCE), 0.0)
    return directions @ directions.transpose(1, 2)


def _from_products(gram: Tensor, squares: Tensor, apart: Tensor) -> Tensor:
    inverse = torch.where(apart, squares.where(apart, 1.0).rsqrt(), 0.0)
    # (e_j - e_i).(e_k - e_i), indexed (i, j, k)
    products = gram[None] - gram[:, :, None] - gram[:, None, :] + gram.diagonal()[:, None, None]
    return products * inverse[:, :, None] * inverse[:, None, :]
