"""The three profiles, smoke, mini and paper: the budget and the seeds of a run in each. Hyper-parameters of methods are
in `catalogue.py`; how the two become a run, in `settings.py`."""

from __future__ import annotations

from dataclasses import replace

from cds_lib.errors import UsageError
from cds_lib.study.plan import catalogue
from cds_lib.study.plan.spec import Budget

Seeds = tuple[int, ...] | None  # those of every cell; None: the profile's own, which in the miniature differ by cell

PROFILES = ("smoke", "mini", "paper")

SEEDS = {"smoke": (0,), "mini": (0, 1, 2), "paper": (0, 1, 2)}
# Of the cells that the headline claims rest on: a two-sided sign-flip test needs six for p < 0.05.
HEADLINE_SEEDS = {"smoke": (0,), "mini": (0, 1, 2, 3, 4, 5), "paper": (0, 1, 2, 3, 4, 5)}
# Of the many networks of Tables 1 and 2 and of all that starts on ImageNet: the miniature shows that they train and
# what one seed gives; three would take days on two cores, and `--seeds 0,1,2` asks for them.
BREADTH_SEEDS = {**SEEDS, "mini": (0,)}

# Released CIFAR protocol (`CIFAR/train.py`): 300 epochs, batch 128, SGD 0.1 / 0.9 / 5e-4 on all parameters,
# lr / 10 when the 0-based epoch index is 90, 180, 280; no warm-up; Cutout in view 1. Mixed precision is ours.
# On several processes CDS contrasts each one's own images and batch norm takes their statistics, as released: `gather`
# and `sync_batchnorm` stay off.
_PAPER_CIFAR = Budget(
    source="real",
    image_size=32,
    stem="cifar",
    width=1.0,
    train_size=None,
    val_size=0,
    epochs=300,
    batch_size=128,
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="step",
    milestones=(90, 180, 280),
    warmup_epochs=0,
    eval_every=1,
    precision="amp",
    cutout=True,
)

# Miniature on real images: 16x16 by area averaging, a class-balanced tenth of the training set, narrow networks. Long
# enough for the baseline to over-fit: on CIFAR-100 its validation loss has its minimum of 3.45 at half of the training
# and ends at 3.59, with a training cross-entropy of 1.25 (with 10,000 images and 30 epochs it was still falling at the
# end, with one of 1.85). Cutout is off: an early trial saw it hurt in so short a training.
_MINI_CIFAR = replace(
    _PAPER_CIFAR,
    image_size=16,
    width=0.25,
    train_size=5_000,
    val_size=2_000,
    epochs=60,
    batch_size=128,
    lr=0.05,
    schedule="cosine",
    milestones=None,
    warmup_epochs=1,
    eval_every=10,
    precision="fp32",
    cutout=False,
)

# Minutes for all tables together: the path of the code is the real one, the numbers mean nothing.
_SMOKE_CIFAR = replace(
    _MINI_CIFAR,
    source="standin",
    width=0.0625,
    train_size=200,
    val_size=0,
    epochs=2,
    batch_size=50,
    eval_every=2,
    warmup_epochs=0,
)

# Released ImageNet protocol (`ImageNet/Contrastive_Deep_Supervision/main.py`): 90 epochs, batch 256, SGD 0.1 / 0.9 /
# 1e-4, lr / 10 every 30 epochs.
_PAPER_IMAGENET = replace(
    _PAPER_CIFAR,
    image_size=224,
    stem="imagenet",
    epochs=90,
    batch_size=256,
    weight_decay=1e-4,
    milestones=(30, 60),
    cutout=False,
    augmentation="imagenet",
)

# Images of 64 pixels, views of 56 (as 256 and 224): the stem and max-pool of ImageNet leave maps of 14 to 2 pixels.
_MINI_IMAGENET = replace(
    _MINI_CIFAR,
    image_size=56,
    stem="imagenet",
    val_size=1_000,
    epochs=30,
    batch_size=64,
    weight_decay=1e-4,
    eval_every=5,
    augmentation="imagenet",
)
_SMOKE_IMAGENET = replace(
    _MINI_IMAGENET,
    source="standin",
    image_size=28,
    width=0.0625,
    train_size=1_000,
    val_size=0,
    epochs=1,
    batch_size=100,
    lr=0.01,
    eval_every=1,
    warmup_epochs=0,
)

# Fine-tuning. The published recipe is not known; ours: SGD 0.01 (ten times that for what is new) / 0.9 / 1e-4, 100
# epochs of batch 64, lr / 10 after 60 and 80 of them, images of 256 cropped to 224.
_PAPER_FINETUNE = replace(
    _PAPER_IMAGENET,
    epochs=100,
    batch_size=64,
    lr=0.01,
    milestones=(60, 80),
    augmentation="finetune",
    new_lr_factor=10.0,
)
_FINETUNING = {"lr": 0.01, "augmentation": "finetune", "new_lr_factor": 10.0}
_MINI_FINETUNE = replace(_MINI_IMAGENET, train_size=None, val_size=0, batch_size=32, **_FINETUNING)
_SMOKE_FINETUNE = replace(_SMOKE_IMAGENET, train_size=200, batch_size=50, **_FINETUNING)

# Detection, the 1x schedule: 12 epochs of batch 16, SGD 0.02 (RetinaNet 0.01) / 0.9 / 1e-4, lr / 10 after 8 and 11,
# 500 steps of warm-up, short side 800. Gradients are clipped, as the first version of mmdetection has it
# (configs/faster_rcnn_r50_fpn_1x.py, retinanet_r50_fpn_1x.py); later ones do not. A miniature needs it: the features of
# bright images can be a hundred times those of others under the fixed batch norms of backbones that trained so little.
_PAPER_DETECTION = replace(
    _PAPER_IMAGENET,
    image_size=800,
    epochs=12,
    batch_size=16,
    lr=0.02,
    milestones=(8, 11),
    warmup_steps=500,
    clip_norm=35.0,
    augmentation=None,
)
# The miniature trains longer on fewer images, with a shorter warm-up: after 12 epochs of 178 images AP was still 0.
_MINI_DETECTION = replace(
    _PAPER_DETECTION,
    image_size=160,
    width=0.125,
    train_size=500,
    epochs=24,
    milestones=(16, 22),
    batch_size=4,
    warmup_steps=50,
    precision="fp32",
    eval_every=24,
)
_SMOKE_DETECTION = replace(
    _MINI_DETECTION,
    source="standin",
    image_size=64,
    width=0.0625,
    train_size=16,
    epochs=1,
    milestones=None,
    lr=0.005,
    eval_every=1,
)

_BUDGETS = {
    "cifar": (_SMOKE_CIFAR, _MINI_CIFAR, _PAPER_CIFAR),
    "imagenet": (_SMOKE_IMAGENET, _MINI_IMAGENET, _PAPER_IMAGENET),
    "finetune": (_SMOKE_FINETUNE, _MINI_FINETUNE, _PAPER_FINETUNE),
    "detection": (_SMOKE_DETECTION, _MINI_DETECTION, _PAPER_DETECTION),
}

# What the numbers of a profile are; shown wherever they are.
DESCRIPTIONS = {
    "smoke": "Smoke profile: small synthetic data sets, narrow networks and a few steps per run. It shows that every "
    "part works; its numbers mean nothing.",
    "mini": "Miniature profile, not the paper's scale: small parts of the real data sets, small images, the same "
    "network topologies with at most a quarter of their channels, short trainings (docs/miniature.md). Compare "
    "differences between methods, in direction; not accuracies with published ones, nor networks with one another.",
    "paper": "Paper profile: the released protocols at full scale, and ours where none is known (docs/choices.md), "
    "with mixed precision added.",
}


def check_profile(profile: str) -> str:
    """Return the profile's name; UsageError if there is no such profile."""
    if profile not in PROFILES:
        raise UsageError(f"Unknown profile {profile!r}: choose one of {', '.join(PROFILES)}.")
    return profile


def parse_seeds(text: str) -> Seeds:
    """Turn "0,1,2" into (0, 1, 2), an empty text into None: the profile's own.

    UsageError for anything but whole numbers >= 0 of at most nine digits.
    """
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise UsageError(f"Seeds must be whole numbers separated by commas, such as 0,1,2, not {text[:80]!r}.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def budget(profile: str, family: str, model: str) -> Budget:
    """The budget of a run of this network on data of a family of the catalogue.

    UsageError for a network that has no width in the miniature.
    """
    found = _BUDGETS[family][PROFILES.index(check_profile(profile))]
    return replace(found, width=catalogue.mini_width(model)) if profile == "mini" else found
