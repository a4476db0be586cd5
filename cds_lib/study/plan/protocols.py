"""The budgets and seeds of runs under the three profiles: smoke, mini and paper. The methods' hyper-parameters are in
`catalogue.py`; `settings.py` builds runs from both."""

from cds_lib.errors import UsageError
from cds_lib.study.plan import catalogue
from cds_lib.study.plan.spec import Budget

Seeds = tuple[int, ...] | None  # the same seeds for every cell; None: the profile's own, which can differ by cell

PROFILES = ("smoke", "mini", "paper")

SEEDS = {"smoke": (0,), "mini": (0, 1, 2), "paper": (0, 1, 2)}
# For the headline claims: a two-sided sign-flip test needs six seeds to reach p < 0.05.
HEADLINE_SEEDS = {"smoke": (0,), "mini": (0, 1, 2, 3, 4, 5), "paper": (0, 1, 2, 3, 4, 5)}
# For the many networks of Tables 1 and 2 and for everything that starts on ImageNet. The miniature shows that they
# train and what one seed gives. Three seeds would take days on two cores; `--seeds 0,1,2` asks for them.
BREADTH_SEEDS = {**SEEDS, "mini": (0,)}

# Budgets, field by field: the values for smoke, mini and paper, or one value for all three. Smoke runs take the real
# code path, in minutes for all tables together; their numbers mean nothing.
#
# Released CIFAR protocol (`CIFAR/train.py`): 300 epochs, batch 128, SGD 0.1 / 0.9 / 5e-4 on all parameters,
# lr / 10 when the 0-based epoch index is 90, 180, 280; no warm-up; Cutout in view 1. Mixed precision is ours.
# With several processes, CDS and batch norm use each process's own images, as released: `gather` and `sync_batchnorm`
# stay off.
#
# Miniature on real images: 16x16 by area averaging, a class-balanced tenth of the training set, narrow networks. It is
# long enough for the baseline to overfit: on CIFAR-100 its validation loss reaches a minimum of 3.45 halfway and ends
# at 3.59, with a training cross-entropy of 1.25. (With 10,000 images and 30 epochs the validation loss was still
# falling at the end, at a training cross-entropy of 1.85.) Cutout is off: it hurt short trainings in an early trial.
_CIFAR = {
    "source": ("standin", "real", "real"),
    "image_size": (16, 16, 32),
    "stem": "cifar",
    "width": (0.0625, None, 1.0),  # in the miniature, the network's own
    "train_size": (200, 5_000, None),
    "val_size": (0, 2_000, 0),
    "epochs": (2, 60, 300),
    "batch_size": (50, 128, 128),
    "lr": (0.05, 0.05, 0.1),
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": ("cosine", "cosine", "step"),
    "milestones": (None, None, (90, 180, 280)),
    "warmup_epochs": (0, 1, 0),
    "eval_every": (2, 10, 1),
    "precision": ("fp32", "fp32", "amp"),
    "cutout": (False, False, True),
}

# Released ImageNet protocol (`ImageNet/Contrastive_Deep_Supervision/main.py`): 90 epochs, batch 256, SGD 0.1 / 0.9 /
# 1e-4, lr / 10 every 30 epochs. Miniature: images of 64 pixels and views of 56 (the ratio of 256 and 224). The ImageNet
# stem and max-pool leave feature maps of 14 to 2 pixels.
_IMAGENET = _CIFAR | {
    "image_size": (28, 56, 224),
    "stem": "imagenet",
    "train_size": (1_000, 5_000, None),
    "val_size": (0, 1_000, 0),
    "epochs": (1, 30, 90),
    "batch_size": (100, 64, 256),
    "lr": (0.01, 0.05, 0.1),
    "weight_decay": 1e-4,
    "milestones": (None, None, (30, 60)),
    "eval_every": (1, 5, 1),
    "cutout": False,
    "augmentation": "imagenet",
}

# Fine-tuning. The published recipe is not known. Ours is SGD 0.01 (ten times that for new parameters) / 0.9 / 1e-4, 100
# epochs at batch 64, lr / 10 after epochs 60 and 80, images of 256 pixels cropped to 224.
_FINETUNE = _IMAGENET | {
    "train_size": (200, None, None),
    "val_size": 0,
    "epochs": (1, 30, 100),
    "batch_size": (50, 32, 64),
    "lr": 0.01,
    "milestones": (None, None, (60, 80)),
    "augmentation": "finetune",
    "new_lr_factor": 10.0,
}

# Detection, the 1x schedule: 12 epochs at batch 16, SGD 0.02 (RetinaNet 0.01) / 0.9 / 1e-4, lr / 10 after epochs 8 and
# 11, 500 warm-up steps, short side 800. Gradients are clipped, as in the first version of mmdetection and not in
# later ones (configs/faster_rcnn_r50_fpn_1x.py, retinanet_r50_fpn_1x.py). The miniature needs this: with the fixed
# batch norms of its briefly trained backbones, features of bright images can be a hundred times those of others. It
# trains longer on fewer images, with a shorter warm-up: after 12 epochs of 178 images AP was still 0.
_DETECTION = _IMAGENET | {
    "image_size": (64, 160, 800),
    "train_size": (16, 500, None),
    "val_size": 0,
    "epochs": (1, 24, 12),
    "batch_size": (4, 4, 16),
    "lr": (0.005, 0.02, 0.02),
    "schedule": "step",
    "milestones": (None, (16, 22), (8, 11)),
    "warmup_epochs": 0,
    "warmup_steps": (50, 50, 500),
    "eval_every": (1, 24, 1),
    "clip_norm": 35.0,
    "augmentation": None,
}

_BUDGETS = {"cifar": _CIFAR, "imagenet": _IMAGENET, "finetune": _FINETUNE, "detection": _DETECTION}

# What the numbers of each profile mean; shown wherever they appear.
DESCRIPTIONS = {
    "smoke": "Smoke profile: small synthetic data sets, narrow networks and a few steps per run. It shows that every "
    "part works; its numbers mean nothing.",
    "mini": "Miniature profile, not the paper's scale: small parts of the real data sets, small images, the same "
    "network topologies with at most a quarter of their channels, short trainings (docs/miniature.md). Only "
    "the direction of differences between methods means something: do not compare accuracies with published ones, or "
    "networks with one another.",
    "paper": "Paper profile: the released protocols at full scale, and ours where none is known (docs/choices.md), "
    "with mixed precision added.",
}


def check_profile(profile: str) -> str:
    """Return the profile's name; UsageError if there is no such profile."""
    if profile not in PROFILES:
        raise UsageError(f"Unknown profile {profile!r}: choose one of {', '.join(PROFILES)}.")
    return profile


def parse_seeds(text: str) -> Seeds:
    """Turn "0,1,2" into (0, 1, 2), and an empty text into None (the profile's own seeds).

    UsageError for anything but whole numbers >= 0 of at most nine digits.
    """
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise UsageError(f"Seeds must be whole numbers separated by commas, such as 0,1,2, not {text[:80]!r}.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def budget(profile: str, family: str, model: str) -> Budget:
    """Return the budget of a run of this network on a family of data sets.

    UsageError for a network that has no width in the miniature.
    """
    place = PROFILES.index(check_profile(profile))
    fields = {name: each[place] if isinstance(each, tuple) else each for name, each in _BUDGETS[family].items()}
    return Budget(**fields | ({"width": catalogue.mini_width(model)} if profile == "mini" else {}))
