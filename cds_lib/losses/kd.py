"""Knowledge distillation on logits (Hinton et al.), in the two forms that the compared methods use."""

import torch.nn.functional as F
from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Source: `distiller_zoo/KD.py` of HobbitLong/RepDistiller.

    Args:
        student, teacher: logits (B, C). Gradients flow into both: detach the one that must stay fixed.
        temperature: T > 0.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input).
    """
    log_p, log_target = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_target, log_target=True, reduction="batchmean")


@full_precision
def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of softmax(student / T) with target softmax(teacher / T), without a factor T^2.

    It is the mean over the batch and differs from the KL divergence by the entropy of the teacher, a constant. Source:
    `CIFAR/distill.py` of the released CDS code. Arguments and result are as for `kd_loss`.
    """
    return F.cross_entropy(student / temperature, F.softmax(teacher / temperature, dim=1))
