"""Correlation congruence (Peng et al.)."""

from torch import Tensor

from cds_lib.losses.precision import full_precision


@full_precision
def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over neighbours i, i + 1 of the batch of sum_d |delta_i,d| |delta_i+1,d|, with delta = student - teacher.

    Source: `distiller_zoo/CC.py` of HobbitLong/RepDistiller (which has it from the method's author).

    Args:
        student, teacher: embeddings (B, D) of one length.

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 for a single image, which has no neighbour.
    """
    delta = (student - teacher).abs()
    products = (delta[:-1] * delta[1:]).sum(1)
    return products.mean() if len(products) else products.sum()
