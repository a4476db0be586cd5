"""The base class of methods with a teacher, a trained network whose weights stay fixed."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from cds_lib.methods.baseline import Baseline
from cds_lib.methods.method import Method
from cds_lib.models import pooled, pooled_and_logits


class WithTeacher(Method):
    """Hold `self.teacher`, a trained method or a network in a `Baseline`, without registering it as a submodule.

    So the teacher's parameters are not among the student's, and its state is not in the student's checkpoint. It is
    frozen, moves along with the student and stays in eval mode (with `teacher_mode = "train"`, in the student's mode).
    """

    teacher: Method
    teacher_mode = "eval"

    def hold_teacher(self, teacher: nn.Module) -> None:
        """Freeze a method or a plain timm network in place and keep it as the teacher."""
        teacher = teacher if isinstance(teacher, Method) else Baseline(teacher)
        object.__setattr__(self, "teacher", teacher.requires_grad_(False))  # bypasses nn.Module's registration
        self.train(self.training)

    def pooled_of_both(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the student's pooled vectors and logits, and the teacher's pooled vectors."""
        student, logits = pooled_and_logits(self.backbone, self.backbone.forward_features(view))
        with torch.no_grad():
            target = pooled(self.teacher.backbone, self.teacher.backbone.forward_features(view))
        return student, logits, target

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.train(mode and self.teacher_mode == "train")
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.teacher._apply(fn, recurse)  # .to(), .cuda() and .float() go through _apply
        return super()._apply(fn, recurse)
