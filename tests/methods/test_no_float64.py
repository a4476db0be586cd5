"""Apple's GPUs have no float64: CDS, and what it is compared with first, train without making any."""

import pytest
import timm
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cds_lib import methods


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in tree_leaves(found)):
            raise TypeError(f"{func} makes float64")
        return found


@pytest.mark.parametrize("name", ["Baseline", "DeeplySupervisedNet", "ContrastiveDeepSupervision"])
def test_a_step_and_an_evaluation(name):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=2)
    method = getattr(methods, name)(network, 2)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    views = [torch.randn(4, 3, 32, 32) for _ in range(method.views)]
    with NoFloat64():
        losses = method(*views, labels=torch.tensor([0, 1, 0, 1]))
        sum(losses.values()).backward()
        optimizer.step()
        assert method.eval()(views[0]).shape == (4, 2)
    assert all(torch.isfinite(loss) for loss in losses.values())
