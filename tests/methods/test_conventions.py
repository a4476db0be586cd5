"""The method follows the conventions of timm: its optimizers, schedules, losses, mixup and wrappers work."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from packaging.version import Version
from timm.data import resolve_model_data_config
from timm.data.mixup import mixup_target
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import cds_lib
from cds_lib import CDS, methods
from cds_lib.study.engines.build import create_method
from toys import normal

SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)}
NETWORKS = {
    "swin_tiny_patch4_window7_224": SWIN,  # exempts two-dimensional tables from weight decay
    "test_vit": {},  # exempts its position embedding from weight decay
    "test_convnext": {},
    "test_resnet": {},
    "poolformer_s12": {},  # has no group_matcher of its own
}
LABELS = torch.tensor([0, 1, 2, 0])
older_timm = pytest.mark.skipif(
    Version(timm.__version__) < Version("1.0.31"), reason="its ResNets ignore gradient checkpointing here"
)


def network(name):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **NETWORKS[name])


def views(side=64):
    return normal(2, 4, 3, side, side, seed=1, dtype=torch.float32)


def settings(model, **options):
    """Return, for each parameter name, its weight decay and learning-rate factor in timm's optimizer."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=0.05, **options).param_groups
    return {names[p]: (group["weight_decay"], group.get("lr_scale", 1.0)) for group in groups for p in group["params"]}


@pytest.mark.parametrize("options", [{}, {"layer_decay": 0.7}])
@pytest.mark.parametrize("name", NETWORKS)
def test_optimizers_of_timm_treat_the_network_as_on_its_own(name, options):
    alone, model = settings(network(name), **options), CDS(network(name), num_classes=3)
    found = settings(model, **options)
    inside = {key.removeprefix("backbone."): value for key, value in found.items() if key.startswith("backbone.")}
    assert inside == alone
    heads = {key: value for key, value in found.items() if not key.startswith("backbone.")}
    assert len(heads) + len(inside) == len(list(model.parameters())) and heads
    for key, (decay, scale) in heads.items():  # weight decay except for vectors; the classifier's learning rate
        assert (decay, scale) == (0.05 if model.get_parameter(key).ndim > 1 else 0.0, 1.0)
    if options:
        assert len({scale for _, scale in inside.values()}) > 2


def test_what_timm_asks_of_a_network():
    plain, model = network("test_resnet"), CDS(network("test_resnet"), num_classes=3)
    assert model.num_classes == 3 and resolve_model_data_config(model) == resolve_model_data_config(plain)
    for part in ("classifier", "first_conv"):
        inside = model.backbone.get_submodule(plain.pretrained_cfg[part])
        assert model.get_submodule(model.pretrained_cfg[part]) is inside


@pytest.mark.parametrize(
    ("name", "block"), [("test_vit", "blocks.0"), pytest.param("test_resnet", "layer1.0", marks=older_timm)]
)
def test_gradient_checkpointing_computes_a_block_again_and_the_same_gradients(name, block):
    gradients, passes = [], []
    for enable in (False, True):
        model = CDS(network(name), num_classes=3)
        model.set_grad_checkpointing(enable)
        model.backbone.get_submodule(block).register_forward_pre_hook(lambda *_, enable=enable: passes.append(enable))
        sum(model(*views(160), LABELS).values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert passes == [False, True, True]
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


@pytest.mark.parametrize("method", ["baseline", "dsn", "dks"])
def test_other_methods_follow_them_too(method):
    method = create_method(method, timm.create_model("resnet10t", num_classes=3), 3, {})
    assert method.num_classes == 3 and settings(method, layer_decay=0.5)["backbone.conv1.0.weight"][1] < 0.5


# -- the loss at the end -----------------------------------------------------------------------------------------------


def logits_of(model, count):
    return model.embed(torch.cat([*views()]))[1][: 4 * count].detach()


@pytest.mark.parametrize("count", [1, 2])
def test_label_smoothing_is_timms(count):
    model = CDS(network("test_resnet"), 3, cross_entropy_views=count, criterion=LabelSmoothingCrossEntropy(0.1))
    losses, plain = model(*views(), LABELS), CDS(network("test_resnet"), 3)(*views(), LABELS)
    assert list(losses) == list(plain)
    logits, labels = logits_of(model, count), LABELS.repeat(count)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(losses["cross_entropy"].detach(), expected)
    assert not torch.isclose(plain["cross_entropy"], losses["cross_entropy"], rtol=1e-3)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("criterion", [None, SoftTargetCrossEntropy(), nn.BCEWithLogitsLoss()])
def test_targets_of_mixed_images(criterion, count):
    model = CDS(network("test_resnet"), 3, cross_entropy_views=count, criterion=criterion)
    mixed = mixup_target(LABELS, 3, lam=0.7)
    losses = model(*views(), targets=mixed)
    by_timm = (criterion or SoftTargetCrossEntropy())(logits_of(model, count), mixed.repeat(count, 1))
    torch.testing.assert_close(losses["cross_entropy"].detach(), by_timm)
    alone = CDS(network("test_resnet"), 3, use_labels=False)(*views(), LABELS)
    both = CDS(network("test_resnet"), 3)(*views(), LABELS, mixed)
    for tap in (name for name in losses if name != "cross_entropy"):
        assert losses[tap].item() != both[tap].item()  # labels make more positives
        assert losses[tap].item() == pytest.approx(alone[tap].item(), rel=1e-5)


def test_a_criterion_computes_in_full_precision():
    model = CDS(network("test_resnet"), 3, criterion=LabelSmoothingCrossEntropy(0.1))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(*views(), LABELS)["cross_entropy"].dtype == torch.float32


def test_unlabelled_images_and_a_criterion_that_knows_them():
    knowing = nn.CrossEntropyLoss(ignore_index=-1)
    model, plain = CDS(network("test_resnet"), 3, criterion=knowing), CDS(network("test_resnet"), 3)
    plain.load_state_dict(model.state_dict())
    partly = torch.tensor([0, -1, 2, -1])
    found = model(*views(), partly)
    for name, loss in plain(*views(), partly).items():
        torch.testing.assert_close(found[name], loss)


# -- what is given, and what holds the method --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["baseline", "cds"])
def test_images_of_bytes_are_one_sentence(method):
    method = create_method(method, network("test_resnet"), 3, {})
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    for mode in (True, False):
        with pytest.raises(ValueError, match="Images must be normalised and floating-point, not torch.uint8"):
            method.train(mode)(*[images] * method.views, LABELS)


def test_a_wrapped_network_is_one_sentence():
    with pytest.raises(ValueError, match="Give the network itself, not DataParallel of it"):
        CDS(nn.DataParallel(network("test_resnet")), 3)


AVERAGE = torch.optim.swa_utils.AveragedModel


@pytest.mark.parametrize(
    ("wrap", "ending"),
    [(ModelEmaV3, "safetensors"), *((wrap, "pt") for wrap in (ModelEmaV3, AVERAGE, nn.DataParallel, torch.compile))],
)
def test_what_holds_a_method_is_exported_as_the_network_that_timm_loads(tmp_path, wrap, ending):
    model = CDS(network("test_resnet"), 3).to(memory_format=torch.channels_last)
    model(*views(), LABELS)  # running statistics unlike those of an untrained network
    file = tmp_path / "new" / f"network.{ending}"
    cds_lib.export_backbone(wrap(model), file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    plain = timm.create_model("test_resnet", num_classes=3, checkpoint_path=str(file)).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(views()[0]), model.eval()(views()[0]))


def test_an_average_of_a_distilled_method_has_a_teacher_of_its_own():
    student = create_method("kd", network("test_resnet"), 3, {}, network("test_resnet"))
    average = ModelEmaV3(student, decay=0.5)
    assert average.module.teacher is not student.teacher
    before = copy.deepcopy(average.module.backbone.state_dict())
    with torch.no_grad():
        for p in student.parameters():
            p += 1
    average.update(student)
    for name, p in student.backbone.named_parameters():
        torch.testing.assert_close(average.module.backbone.get_parameter(name), (before[name] + p) / 2)


# -- what a device may lack --------------------------------------------------------------------------------------------


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in tree_leaves(found)):
            raise TypeError(f"{func} makes float64")
        return found


@pytest.mark.parametrize("name", ["Baseline", "DeeplySupervisedNet", "ContrastiveDeepSupervision"])
def test_a_step_and_an_evaluation_make_no_float64(name):
    """Apple's GPUs have no float64. Check CDS and the methods it is first compared with."""
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
