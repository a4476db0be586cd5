"""The mimicry loss of DKS and DHM: every classifier of a network learns from the predictions of all the others."""

from torch import Tensor

from cds_lib.losses.precision import full_precision

# Keeps the logarithms finite where a probability underflows; as released.
_SMOOTHING = 1e-8


@full_precision
def mimicry_loss(logits: Tensor) -> Tensor:
    """Return the sum over all ordered pairs of classifiers of KL(p_j || p_i), where the target p_j is a constant.

        p = (softmax(logits) + 1e-8) / (1 + classes * 1e-8)
        loss = sum_i sum_{j != i} mean over the batch of KL(stopgrad(p_j) || p_i)

    The temperature is 1 and there are no weights. The releases of both DKS (sundw2014/DKS) and DHM (d-li14/DHM, with
    its temperature at 1) add this sum to the cross-entropies.

    Args:
        logits: (classifiers, batch, classes).

    Returns:
        A scalar >= 0, float32 (float64 for float64 input); 0 for a single classifier.

    Raises:
        ValueError: if `logits` does not have three dimensions.
    """
    if logits.ndim != 3:
        raise ValueError(f"logits must be (classifiers, batch, classes), not {tuple(logits.shape)}.")
    _, batch, classes = logits.shape
    p = (logits.softmax(-1) + _SMOOTHING) / (1 + classes * _SMOOTHING)
    log_p, target = p.log(), p.detach()
    # All pairs (j, i) at once. A classifier paired with itself adds nothing to the loss or to its gradient.
    return (target[:, None] * (target.log()[:, None] - log_p)).sum() / batch
