"""Losses of SSKD (Xu et al.): similarities of rotated copies, and distillation of rows ranked by the teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def rotation_similarities(embeddings: Tensor) -> Tensor:
    """Return the cosine similarity of every rotated copy to every upright image of the batch.

    Args:
        embeddings: (4 B, D), interleaved: rows 4 i to 4 i + 3 are image i upright and its three rotated copies.

    Returns:
        (3 B, B); the rotated copies keep their order, so row r belongs to the upright image r // 3.
    """
    images = F.normalize(embeddings, dim=1).unflatten(0, (-1, 4))
    return images[:, 1:].flatten(0, 1) @ images[:, 0].T


@full_precision
def ranked_kd_loss(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, keep_wrong: float) -> Tensor:
    """Return `kd_loss` on the rows that the teacher gets right and on the best of those that it gets wrong.

    A wrong row is better if the teacher ranks fewer columns above the target. The best fraction `keep_wrong` of the
    wrong rows is kept (rounded down; among equals, the first). The mean is over the kept rows. Source: `student.py` of
    xuguodong03/SSKD, where the sorting decides among equals.

    Args:
        student, teacher: logits or similarities (R, C).
        targets: (R,) int64, the right column of each row.
        temperature: T > 0.
        keep_wrong: fraction of the wrong rows that is kept, in [0, 1].

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 if no row is kept.
    """
    rank = (teacher > teacher.gather(1, targets[:, None])).sum(1)
    wrong = (rank > 0).sum()
    # A mask: the size of a selection would have to be read from the device.
    kept = rank.argsort(stable=True).argsort() < len(rank) - wrong + (wrong * keep_wrong).floor()
    log_p, log_target = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    rows = F.kl_div(log_p, log_target, log_target=True, reduction="none").sum(1)
    return temperature**2 * torch.where(kept, rows, 0.0).sum() / kept.sum().clamp(min=1)
