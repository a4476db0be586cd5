"""Losses computed by a compiled graph, if the method can be compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cds_lib.methods.method import Method


class Compiled:
    """A compiled method in training mode, which is called like the method. On a GPU the kernels of a step are also
    captured and launched as one, because launches take longer than the arithmetic of small networks.

    Shapes are static: a batch of another size, such as the last of an epoch, gets its own graph. The first batch of
    each size tries the graph, forward and backward. On a GPU it does so three times, because a graph is captured the
    second time and launched the third. The trial leaves nothing behind but the graph. If it fails, the method itself
    computes batches of this size. Then `say` is told how batches of the sizes so far are computed, or why not.

    The next call overwrites the losses, so copy those that you keep.
    """

    def __init__(self, method: Method, device: torch.device, say: Callable[[str], None] = lambda how: None):
        self.method, self.device, self.say = method, device, say
        more: dict[str, Any] = {"mode": "reduce-overhead"} if device.type == "cuda" else {}
        self.compiled: Callable[..., Any] = torch.compile(method, dynamic=False, **more)
        self.steps: dict[int, Callable[..., Any]] = {}  # by the size of the batch
        self.how: dict[int, str] = {}

    def __call__(self, *views: Tensor, **named: Tensor) -> dict[str, Tensor]:
        size = len(views[0])
        if size not in self.steps:
            self.steps[size], self.how[size] = self._tried(views, named)
            self.say("; ".join(f"batches of {size}: {how}" for size, how in self.how.items()))
        self._begin()
        return self.steps[size](*views, **named)

    def _begin(self) -> None:
        """Allow the results of earlier calls to be overwritten from now on."""
        if self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()

    def _tried(self, views: tuple[Tensor, ...], named: dict[str, Tensor]) -> tuple[Callable[..., Any], str]:
        from torch._dynamo.utils import counters  # slow to import

        modules: list[nn.Module] = [self.method, *([self.method.teacher] if self.method.teacher is not None else [])]
        state = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        before = [tensor.detach().clone() for tensor in state]
        left_out = counters["inductor"]["cudagraph_skips"]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            try:
                for _ in range(3 if self.device.type == "cuda" else 1):
                    self._begin()
                    self.method.zero_grad(set_to_none=True)
                    loss = sum(self.compiled(*views, **named).values())
                    with torch.autocast(self.device.type, enabled=False):
                        loss.backward()
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # compiler, graph and toolchain errors have no common class
                cause = getattr(error, "inner_exception", error)
                first = (str(cause).strip() or "no message").splitlines()[0]
                return self.method, f"not compiled ({type(cause).__name__}: {first})"
            finally:
                self.method.zero_grad(set_to_none=True)
                with torch.no_grad():
                    for tensor, value in zip(state, before, strict=True):
                        tensor.copy_(value)
        if self.device.type != "cuda":
            return self.compiled, "compiled"
        captured = counters["inductor"]["cudagraph_skips"] == left_out
        return self.compiled, "compiled and captured" if captured else "compiled, but not captured"
