"""The spec of a run: everything that decides its result, and the id that names its folder.

A run's id is a hash of the canonical form of its spec. Fields that are None are left out of that form, so that a
field added later (with None meaning "as before") leaves the ids of finished runs as they are.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from cds_lib.errors import UsageError
from cds_lib.study.plan import catalogue


@dataclass(frozen=True)
class Budget:
    """The protocol of a run, chosen by the profile.

    source: "standin" (synthetic data) or "real"; image_size in pixels; stem and width as in `create_backbone`;
    train_size and val_size: images, class-balanced, drawn from the training set (None = all of it, 0 = no validation);
    schedule: "step" (lr / 10 when the 0-based epoch index reaches a milestone) or "cosine" (to 0, per step);
    warmup_epochs: linear from 0, per step; eval_every: epochs between test evaluations (the last is always evaluated);
    precision: "fp32" or "amp" (bf16 where the device has it, else fp16 with a loss scaler).

    The other fields were added later; None means the behaviour before. augmentation: a name in
    `cds_lib.augment.AUGMENTATIONS` (None = the released CIFAR views); optimizer: "lars" (None = SGD); warmup_steps:
    warm-up in steps instead of epochs; new_lr_factor: in fine-tuning, multiplies the learning rate of parameters that
    the pre-trained network does not have; clip_norm: upper limit on the norm of a step's gradient, taken over all
    parameters; val_seed: runs with the same value hold back the same validation images (None = the run's own seed);
    view1_twice: CIFAR's view 1 is drawn again in place of view 2. gather and sync_batchnorm matter only if several
    processes train the run, which is not part of its spec. With gather, CDS contrasts the images of the whole batch;
    with sync_batchnorm, batch norms use the statistics of the whole batch (None = each process its own, as released).
    """

    source: str
    image_size: int
    stem: str
    width: float
    train_size: int | None
    val_size: int
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    milestones: tuple[int, ...] | None
    warmup_epochs: int
    eval_every: int
    precision: str
    cutout: bool
    augmentation: str | None = None
    optimizer: str | None = None
    warmup_steps: int | None = None
    new_lr_factor: float | None = None
    clip_norm: float | None = None
    gather: bool | None = None
    sync_batchnorm: bool | None = None
    val_seed: int | None = None
    view1_twice: bool | None = None

    @property
    def views(self) -> dict[str, Any]:
        """Arguments of `Batches` and of the evaluation that say how images become views."""
        return {"augmentation": self.augmentation or "cifar", "size": self.image_size}

    @property
    def stored_size(self) -> int:
        """Side of the images in memory, in pixels: that of the views, for ImageNet views 8/7 of it (as 256 and 224)."""
        return self.image_size if self.augmentation is None else round(self.image_size * 8 / 7)

    @property
    def streamed(self) -> bool:
        """Whether images are decoded during training: real ones of more than 64 pixels, with `augmentation` set."""
        return self.source == "real" and self.augmentation is not None and self.image_size > 64


@dataclass(frozen=True)
class RunSpec:
    """One training, with everything that decides its result.

    `options` are the method's hyper-parameters, `parent` the run it starts from (its teacher, or the pre-training of
    its backbone), `labelled` the fraction of the training images whose labels it may use (None = all).
    """

    dataset: str
    model: str
    method: str
    setting: str
    seed: int
    budget: Budget
    options: dict[str, Any] = field(default_factory=dict)
    parent: RunSpec | None = None
    labelled: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict that `from_dict` turns back into an equal spec."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunSpec:
        """Inverse of `to_dict`. A field with a default may be missing, as in a store from before it was added.

        Raises UsageError on other missing fields, unknown fields, and numbers that JSON does not have.
        """
        try:
            budget = dict(data["budget"])
            if budget.get("milestones") is not None:
                budget["milestones"] = tuple(budget["milestones"])
            parent = None if data.get("parent") is None else cls.from_dict(data["parent"])
            spec = cls(**{**data, "budget": Budget(**budget), "parent": parent})
            json.dumps(spec.to_dict(), allow_nan=False)
            return spec
        except UsageError:  # raised for the parent
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise UsageError(f"A run's spec cannot be read ({error}): it was written by another version.") from error

    @property
    def canonical(self) -> str:
        """Sorted, compact JSON without None fields: the text that is hashed."""
        return json.dumps(_without_none(self.to_dict()), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits of the hash; cached, so `options` must not be changed in place."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:12]

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the run also trains on images whose labels it may not use (`labelled`): CDS contrasts them."""
        return catalogue.method(self.method).uses_unlabelled

    @property
    def detects(self) -> bool:
        """Whether the run trains a detector on the backbone of its parent."""
        return self.setting == "detect"

    @property
    def finetunes(self) -> bool:
        """Whether the run fine-tunes the whole network that its parent trained."""
        return self.setting in ("finetune", "finetune_pretraining_only", "finetune_only")

    @property
    def teacher(self) -> RunSpec | None:
        """The run whose network is distilled, or None: any other parent has pre-trained the network of this run."""
        return self.parent if self.setting == "distill" else None

    def with_seed(self, seed: int) -> RunSpec:
        """Return the same run, and the runs it needs, with another seed."""
        return replace(self, seed=seed, parent=self.parent and self.parent.with_seed(seed))

    @property
    def lineage(self) -> tuple[RunSpec, ...]:
        """The runs this one needs, in the order they must be trained, and itself."""
        return (*(self.parent.lineage if self.parent else ()), self)

    @property
    def label(self) -> str:
        """Name of the run in progress lines."""
        setting = "" if self.setting == "supervised" else f" {self.setting}"
        return f"{self.dataset} {self.model} {self.method}{setting} seed {self.seed}"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
