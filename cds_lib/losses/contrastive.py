"""The contrastive loss of CDS: supervised (SupCon) with labels, SimCLR's NT-Xent without."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.losses.contrastive_kernel import supcon_kernel
from cds_lib.losses.precision import at_least_float32, outside_autocast


def supcon_formula(z: Tensor, labels: Tensor, temperature: float | Tensor = 0.07) -> Tensor:
    """What `supcon_loss` computes, in plain lines: z (..., views, batch, dim), labels (batch,) -> (...)."""
    views, batch = z.shape[-3:-1]
    z, labels = z.flatten(-3, -2), labels.repeat(views)  # (..., n, dim) and (n,), n = views * batch
    itself = torch.eye(views * batch, dtype=torch.bool, device=z.device)
    s = z @ z.mT / temperature  # the similarity of every pair
    log_p = s - s.masked_fill(itself, torch.finfo(s.dtype).min).logsumexp(-1, keepdim=True)
    positive = (labels[:, None] == labels) & ~itself
    positives = positive.sum(-1)
    loss = -(log_p * positive).sum(-1) / positives.clamp(min=1)  # of every anchor
    return loss.sum(-1) / (positives > 0).sum().clamp(min=1)


def supcon_loss(z: Tensor, labels: Tensor | None = None, temperature: float | Tensor = 0.07) -> Tensor:
    """Contrastive loss of every tap in one call.

    For an anchor a with positives P(a), among all other embeddings k != a of the same tap,

        loss_a = - 1/|P(a)| sum_{p in P(a)} [ z_a.z_p / t - log sum_{k != a} exp(z_a.z_k / t) ],

    averaged over the anchors that have a positive (0 if none has). Source: `CIFAR/loss.py` of the released code, that
    is the SupCon loss with the positives' mean outside the logarithm and t / base temperature = 1; the released copy
    lacks the guard for an anchor without positives.

    z is assumed to be normalised, which is not checked: embeddings three times as long have the loss of a ninth of the
    temperature. `SupConLoss` normalises. Images labelled -1 are a class like any other. The device is not synchronised
    with.

    Args:
        z: L2-normalised embeddings (..., views, batch, dim); any floating type, computed in at least float32.
        labels: (batch,) integers; positives are all views of the images with the same label. None (SimCLR):
            the other views of the same image only.
        temperature: t > 0, a number or a tensor of one element, which is differentiated if it requires it.

    Returns:
        One loss per leading index, shape (...), float32 (float64 for float64 input). Once differentiable; under
        `torch.func` or with a learned temperature `supcon_formula` computes it, which is differentiable any number of
        times and takes more memory.

    Raises:
        ValueError: on a shape that does not fit or a temperature that is not positive.
    """
    if z.ndim < 3:
        raise ValueError(f"z must be (..., views, batch, dim), not {tuple(z.shape)}.")
    if isinstance(temperature, Tensor):  # its value is not checked: that would synchronise with the device
        if temperature.numel() != 1:
            raise ValueError(f"The temperature must be one number, not {tuple(temperature.shape)}.")
        temperature = temperature.reshape(())
    elif not temperature > 0:
        raise ValueError(f"The temperature must be positive, not {temperature}.")
    views, batch, dim = z.shape[-3:]
    if labels is None:
        labels = torch.arange(batch, device=z.device)
    elif labels.shape != (batch,):
        raise ValueError(f"labels must be ({batch},) for {batch} images, not {tuple(labels.shape)}.")
    if not views * batch:
        return at_least_float32(z).sum((-3, -2, -1))  # 0, as a part of the graph
    with outside_autocast(z.device):  # exp(1 / 0.07) overflows float16
        z = at_least_float32(z)
        learned = isinstance(temperature, Tensor) and temperature.requires_grad
        if learned or torch._C._are_functorch_transforms_active():
            return supcon_formula(z, labels, temperature)
        flat = z.reshape(-1, views * batch, dim)
        return supcon_kernel(flat, labels.repeat(views), temperature).reshape(z.shape[:-3])


class SupConLoss(nn.Module):
    """`supcon_loss` of embeddings as they come from a network: it normalises them and checks its arguments.

    Args:
        temperature: t > 0, a number, or an `nn.Parameter` of one element that is learned.
        batch_first: embeddings are (..., batch, views, dim), as in SupContrast; if False, (..., views, batch, dim).
            It cannot be told from the shape where there are as many views as images.

    Called with embeddings of any length and floating type and with labels (batch,) of an integer type, in which images
    labelled -1 are unlabelled (their positives are their own other views), or None (SimCLR). Returns one loss for each
    leading index: a scalar for three dimensions.

    Raises:
        ValueError: embeddings of fewer dimensions or of integers, labels of another number or of a floating type, a
            temperature that is not positive.
    """

    def __init__(self, temperature: float | nn.Parameter = 0.07, batch_first: bool = False):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"The temperature must be positive, not {temperature}.")
        self.temperature, self.batch_first = temperature, batch_first

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if z.ndim < 3 or not z.is_floating_point():
            order = "batch, views" if self.batch_first else "views, batch"
            raise ValueError(f"Embeddings must be floating-point (..., {order}, dim), not {z.dtype} {tuple(z.shape)}.")
        if labels is not None and (labels.is_floating_point() or labels.dtype == torch.bool):
            raise ValueError(f"labels must be integers, not {labels.dtype}.")
        if self.batch_first:
            z = z.transpose(-3, -2)
        z = F.normalize(at_least_float32(z), dim=-1)
        return supcon_loss(z, None if labels is None else apart(labels), self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={float(self.temperature):g}, batch_first={self.batch_first}"


def apart(labels: Tensor) -> Tensor:
    """Labels (batch,) in which each unlabelled image, -1, has become a class of its own."""
    return torch.where(labels < 0, -1 - torch.arange(len(labels), device=labels.device), labels)
