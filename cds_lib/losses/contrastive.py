"""The contrastive loss of CDS: supervised (SupCon) with labels, SimCLR's NT-Xent without labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cds_lib.losses.contrastive_kernel import supcon_kernel
from cds_lib.losses.precision import at_least_float32, outside_autocast


def supcon_formula(z: Tensor, labels: Tensor, temperature: float | Tensor = 0.07) -> Tensor:
    """Compute `supcon_loss` in plain PyTorch: z (..., views, batch, dim), labels (batch,) -> (...)."""
    views, batch = z.shape[-3:-1]
    z, labels = z.flatten(-3, -2), labels.repeat(views)  # (..., n, dim) and (n,), n = views * batch
    itself = torch.eye(views * batch, dtype=torch.bool, device=z.device)
    s = z @ z.mT / temperature  # the similarity of every pair
    log_p = s - s.masked_fill(itself, torch.finfo(s.dtype).min).logsumexp(-1, keepdim=True)
    positive = (labels[:, None] == labels) & ~itself
    positives = positive.sum(-1)
    loss = -(log_p * positive).sum(-1) / positives.clamp(min=1)  # one per anchor
    return loss.sum(-1) / (positives > 0).sum().clamp(min=1)


def supcon_loss(z: Tensor, labels: Tensor | None = None, temperature: float | Tensor = 0.07) -> Tensor:
    """Return the contrastive loss of every tap in one call.

    The loss of an anchor a with positives P(a), where k runs over all other embeddings of the same tap, is

        loss_a = - 1/|P(a)| sum_{p in P(a)} [ z_a.z_p / t - log sum_{k != a} exp(z_a.z_k / t) ].

    The loss of a tap is the mean over its anchors that have a positive (0 if none has). Source: `CIFAR/loss.py` of the
    released code. This is SupCon with the mean over the positives outside the logarithm and t / base temperature = 1.
    The released copy does not guard against anchors without a positive.

    `z` must be L2-normalised, which is not checked: making all embeddings three times as long has the effect of a ninth
    of the temperature. `SupConLoss` normalises. Label -1 is a class like any other. The call does not synchronise with
    the device.

    Args:
        z: L2-normalised embeddings (..., views, batch, dim) of any floating type; computed in at least float32.
        labels: (batch,) integers. The positives are all views of the images with the same label. None (SimCLR): only
            the other views of the same image.
        temperature: t > 0, a number or a tensor of one element, which gets a gradient if it requires one.

    Returns:
        One loss per leading index, shape (...), float32 (float64 for float64 input). It is once differentiable. Under
        `torch.func` or with a learned temperature it comes from `supcon_formula`, which is differentiable any number of
        times and takes more memory.

    Raises:
        ValueError: if a shape does not fit or the temperature is a number that is not positive.
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
        return at_least_float32(z).sum((-3, -2, -1))  # 0, connected to the graph
    with outside_autocast(z.device):  # exp(1 / 0.07) overflows float16
        z = at_least_float32(z)
        learned = isinstance(temperature, Tensor) and temperature.requires_grad
        if learned or torch._C._are_functorch_transforms_active():
            return supcon_formula(z, labels, temperature)
        flat = z.reshape(-1, views * batch, dim)
        return supcon_kernel(flat, labels.repeat(views), temperature).reshape(z.shape[:-3])


class SupConLoss(nn.Module):
    """`supcon_loss` as a module, which normalises the embeddings and checks its arguments.

    Args:
        temperature: t > 0, a number, or an `nn.Parameter` of one element, which is learned.
        batch_first: if True, embeddings are (..., batch, views, dim), as in SupContrast; if False,
            (..., views, batch, dim). The shape cannot tell them apart if there are as many views as images.

    `forward` takes embeddings of any norm and floating type, and labels (batch,) of an integer type or None (SimCLR).
    An image labelled -1 is unlabelled: its only positives are its own other views. `forward` returns one loss per
    leading index, a scalar for three dimensions.

    Raises:
        ValueError: if the embeddings have fewer than three dimensions or are integers, the labels are not one integer
            per image, or the temperature is not positive.
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
    """Return labels (batch,) in which every unlabelled image (-1) is a class of its own."""
    return torch.where(labels < 0, -1 - torch.arange(len(labels), device=labels.device), labels)
