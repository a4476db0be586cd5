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

    None means what came before the field: augmentation (a name of `cds_lib.augment.AUGMENTATIONS`; None = the released
    CIFAR views), optimizer ("lars"; None = SGD), warmup_steps (a warm-up in steps, in the place of epochs),
    new_lr_factor (in fine-tuning: times the learning rate for what the pre-trained network does not have), clip_norm
    (the norm that the gradient of a step, of all parameters together, is scaled down to where it is longer), val_seed
    (runs with the same one hold back the same validation images; None: those of the run's own seed), view1_twice
    (CIFAR's view 1, drawn once more, in the place of view 2), gather and sync_batchnorm. The last two matter where
    several processes train the run, which is no part of its spec: with gather, CDS contrasts the images of the whole
    batch (None: each process its own, as released); with sync_batchnorm, batch norms use the statistics of the whole
    batch (None: each process its own, as released).
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
        """How images become views: the arguments of `Batches` and of the evaluation that say so."""
        return {"augmentation": self.augmentation or "cifar", "size": self.image_size}

    @property
    def stored_size(self) -> int:
        """Side of the images in memory that views are cut from: of the ImageNet views 8/7 of theirs, as 256 and 224."""
        return self.image_size if self.augmentation is None else round(self.image_size * 8 / 7)

    @property
    def streamed(self) -> bool:
        """Whether images are decoded as the training goes: real ones of more than 64 pixels."""
        return self.source == "real" and self.augmentation is not None and self.image_size > 64


@dataclass(frozen=True)
class RunSpec:
    """One training.

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
        """A JSON-ready dict that `from_dict` turns back into an equal spec."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunSpec:
        """Inverse of `to_dict`; a field with a default may be missing (in a store from before it was added).

        Raises UsageError on other missing fields, on unknown ones, and on numbers that JSON does not have.
        """
        try:
            budget = dict(data["budget"])
            if budget.get("milestones") is not None:
                budget["milestones"] = tuple(budget["milestones"])
            parent = None if data.get("parent") is None else cls.from_dict(data["parent"])
            spec = cls(**{**data, "budget": Budget(**budget), "parent": parent})
            json.dumps(spec.to_dict(), allow_nan=False)
            return spec
        except UsageError:  # the parent's
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise UsageError(f"A run's spec cannot be read ({error}): it was written by another version.") from error

    @property
    def canonical(self) -> str:
        """Sorted, compact JSON without None fields: the text that is hashed."""
        return json.dumps(_without_none(self.to_dict()), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits; made once, so `options` must not be changed in place."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:12]

    @property
    def uses_unlabelled(self) -> bool:
        """Whether it also learns from the images whose labels it may not use (`labelled`): CDS contrasts them."""
        return catalogue.method(self.method).uses_unlabelled

    @property
    def detects(self) -> bool:
        """Whether it trains a detector, on the backbone of its parent."""
        return self.setting == "detect"

    @property
    def finetunes(self) -> bool:
        """Whether all of a network is trained on that its parent has trained before."""
        return self.setting in ("finetune", "finetune_pretraining_only", "finetune_only")

    @property
    def teacher(self) -> RunSpec | None:
        """The run whose network it distils; any other parent has trained its own network before."""
        return self.parent if self.setting == "distill" else None

    def with_seed(self, seed: int) -> RunSpec:
        """The same run, and the runs it needs, with another seed."""
        return replace(self, seed=seed, parent=self.parent and self.parent.with_seed(seed))

    @property
    def lineage(self) -> tuple[RunSpec, ...]:
        """The runs this one needs, in the order they must be trained, and itself."""
        return (*(self.parent.lineage if self.parent else ()), self)

    @property
    def label(self) -> str:
        """How progress lines call the run."""
        setting = "" if self.setting == "supervised" else f" {self.setting}"
        return f"{self.dataset} {self.model} {self.method}{setting} seed {self.seed}"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
