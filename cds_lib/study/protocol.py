"""What a profile's trainings are, in words: shown wherever their numbers are."""

from __future__ import annotations

from collections.abc import Iterable

from cds_lib.study import profiles
from cds_lib.text import listed

_PROFILES = {
    "smoke": "Smoke profile: small synthetic data sets, narrow networks and a few steps per run. It shows that every "
    "part works; its numbers mean nothing.",
    "mini": "Miniature profile, not the paper's scale: small parts of the real data sets, small images, the same "
    "network topologies with at most a quarter of their channels, short trainings. Compare "
    "differences between methods, in direction; not accuracies with published ones, nor networks with one another.",
    "paper": "Paper profile: the released protocols at full scale, and ours where none is known, with mixed precision "
    "added.",
}
_FAMILIES = {"cifar": "CIFAR", "imagenet": "ImageNet", "finetune": "Fine-tuning", "detection": "Detection"}
_UNTUNED = (
    "; off CIFAR CDS has weight 1 per tap (released: 0.1, distilled 0.5), which an early trial on CIFAR-10 suggested; "
    "all other loss weights are published ones, untuned"
)


def describe(profile: str, families: Iterable[str] = ()) -> str:
    """What the profile scales down, and the budgets of these families of `profiles.FAMILIES` (or "detection").

    UsageError for an unknown profile.
    """
    text = _PROFILES[profiles.check_profile(profile)]
    if profile == "smoke":
        return text
    return " ".join([text, *(_budget(profile, family) for family in _FAMILIES if family in set(families))])


def _budget(profile: str, family: str) -> str:
    found = profiles.budget(profile, family, "resnet50")
    images = "all images" if found.train_size is None else f"at most {found.train_size:,} training images"
    side = "a short side of" if family == "detection" else "views of"
    cosine = ", a cosine" if found.schedule == "cosine" else ""
    steps = f", lr / 10 after {listed([str(epoch) for epoch in found.milestones])}" if found.milestones else ""
    weights = {"cifar": _chosen(), "imagenet": _UNTUNED}.get(family) if profile == "mini" else ""
    return (
        f"{_FAMILIES[family]}: {images}, {side} {found.image_size} pixels, {found.epochs} epochs of batch "
        f"{found.batch_size}, lr {found.lr:g}{cosine}{steps}{weights or ''}."
    )


def _chosen() -> str:
    """The loss weights of the miniature on CIFAR."""
    names = {"dsn": "DSN", "dks": "DKS", "dhm": "DHM", "cds": "CDS", "cds_simclr": "CDS with the SimCLR loss"}
    weights = (f"{name} {profiles.method_options('mini', 'cifar', key)['weight']:g}" for key, name in names.items())
    return (
        f", no Cutout; learning rate and loss weights ({', '.join(weights)}) were chosen on validation images of "
        "CIFAR-100, from three candidates each, and that of distilled CDS by an early trial"
    )
