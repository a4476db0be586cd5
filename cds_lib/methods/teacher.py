"""The base of methods with a teacher: a trained network that teaches and is not changed by it."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from cds_lib.methods.baseline import Baseline
from cds_lib.methods.method import Method
from cds_lib.models import pooled, pooled_and_logits


class WithTeacher(Method):
    """Holds `self.teacher`, a trained method, or a network in a `Baseline`, without registering it as a submodule.

    So its parameters are not among the student's and its state is not in the student's checkpoint. It is frozen, moves
    along with the student and stays in eval mode (`teacher_mode = "train"`: in the student's mode).
    """

    teacher: Method
    teacher_mode = "eval"

    def hold_teacher(self, teacher: nn.Module) -> None:
        """Freeze `teacher`, a method or a plain timm network, in place and keep it."""
        teacher = teacher if isinstance(teacher, Method) else Baseline(teacher)
        object.__setattr__(self, "teacher", teacher.requires_grad_(False))  # past the registration of nn.Module
        self.train(self.training)

    def pooled_of_both(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The student's pooled vectors and logits, and the teacher's pooled vectors."""
        student, logits = pooled_and_logits(self.backbone, self.backbone.forward_features(view))
        with torch.no_grad():
            target = pooled(self.teacher.backbone, self.teacher.backbone.forward_features(view))
        return student, logits, target

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.train(mode and self.teacher_mode == "train")
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.teacher._apply(fn, recurse)  # what .to(), .cuda() and .float() go through
        return super()._apply(fn, recurse)
