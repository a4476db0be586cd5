"""Exported networks load elsewhere unchanged; an impossible export is refused in one sentence."""

import re

import pytest
import timm
import torch

import cds_lib
from cds_lib.errors import UsageError
from cds_lib.study.cli import main
from cds_lib.study.commands.export import loading
from cds_lib.study.engines import build
from cds_lib.study.plan import settings
from cds_lib.study.store import Store
from cds_lib.study.tables.contrastive_methods import contrastive
from cds_lib.study.tables.table4_coco import detector
from cds_lib.training import checkpoint
from run_folders import MINI, write_run


def visible(network):
    """Give the network running statistics and a classifier unlike those of an untrained network."""
    torch.manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "fc.weight")):
            tensor.normal_(std=0.1)
    return network


def test_what_cannot_be_exported_leaves_no_file(tmp_path):
    model = cds_lib.ContrastiveDeepSupervision("test_byobnet", num_classes=2)
    with pytest.raises(UsageError, match="ByobNet has no backbone"):
        cds_lib.export_backbone(model.backbone, tmp_path / "network.pt")
    for name in ("network.npy", "network.npz"):
        with pytest.raises(UsageError, match=r"another format: let its name end in \.pt or \.safetensors"):
            cds_lib.export_backbone(model, tmp_path / name)
    with pytest.raises(UsageError, match="is a folder: give the name of a file in it"):
        cds_lib.export_backbone(model, tmp_path)
    with pytest.raises(OSError):
        (tmp_path / "file").write_text("in the way")
        cds_lib.export_backbone(model, tmp_path / "file" / "network.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def finished(store, spec, classes):
    """Write a run as if it had been trained, and return its method."""
    torch.manual_seed(0)
    method = build.create_method(spec.method, build.backbone(spec, classes), classes, spec.options)
    visible(method.backbone)
    write_run(store, spec, {})
    checkpoint.save(store.model(spec.id), {"method": method.state_dict(), "spec": spec.canonical})
    return method.eval()


@pytest.mark.parametrize(
    ("profile", "dataset", "model", "classes", "ending", "loader"),
    [
        ("mini", "cifar100", "resnet18", 100, "pt", "create_backbone"),  # timm lacks this stem and width
        ("paper", "imagenet", "resnet18", 1000, "pt", "timm.create_model"),
        ("mini", "imagenet", "preactresnet18", 50, "safetensors", "load_file"),  # an imported part of the data set
    ],
)
def test_the_lines_that_the_command_prints_load_the_run(
    tmp_path, capsys, profile, dataset, model, classes, ending, loader
):
    store, out = Store(tmp_path / "results"), tmp_path / f"it's.{ending}"
    spec = settings.supervised(profile, dataset, model, "cds", 0)
    method = finished(store, spec, classes)
    folder = f"{store.run_dir(spec.id)}/"  # with the slash of shell completion; the id alone works too
    assert main(["export", folder, str(out), "--profile", profile, "--results", str(store.root)]) == 0
    said = capsys.readouterr().out
    assert f"the network of run {spec.id} ({dataset} {model} cds seed 0)" in said
    lines = re.findall(r"^ {4}(.+)$", said, re.M)
    assert loader in " ".join(lines)
    names: dict = {}
    exec("\n".join(lines), names)
    side = int(re.search(r"\(B, 3, (\d+), \1\)", said)[1])
    assert side == spec.budget.image_size
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(names["network"](images), method.backbone(images))


def test_committed_weights_are_those_of_the_runs_that_their_card_names(tmp_path, capsys):
    store, out = Store(MINI), tmp_path / "network.pt"
    card, files = (MINI / "weights" / "README.md").read_text(encoding="utf-8"), [*MINI.glob("weights/*.saf*")]
    assert files and sum(path.stat().st_size for path in files) <= 30e6
    for path in files:
        assert main(["export", path.stem, str(out), "--results", str(MINI)]) == 0  # other runs' weights are refused
        assert 'create_backbone("resnet18", 100, ' in capsys.readouterr().out
        assert f"| `{path.name}` | " in card and f"| {store.metric(path.stem, 'test_top1_last'):.2f} |" in card


def test_the_network_names_of_timm():
    spec = settings.supervised("paper", "imagenet", "preactresnet18", "baseline", 0)
    assert '"resnetv2_18", num_classes=1000' in loading(spec, 1000, "x.pt")[1]
    without_pool = settings.supervised("paper", "imagenet", "resnet18", "cds", 0, settings.NO_MAX_POOL)
    assert 'stem="imagenet_no_max_pool", width=1)' in loading(without_pool, 1000, "x.pt")[2]


def test_weights_of_a_run_are_not_written_over(tmp_path, capsys):
    store, spec = Store(tmp_path / "results"), settings.supervised("mini", "cifar100", "resnet18", "baseline", 0)
    finished(store, spec, 100)
    path = store.model(spec.id)
    weights = path.read_bytes()
    assert main(["export", spec.id, str(path), "--results", str(store.root)]) == 2
    assert "is inside the folder of runs" in capsys.readouterr().err and path.read_bytes() == weights


def test_a_compiled_network_is_exported_under_its_own_names(tmp_path):
    plain = timm.create_model("test_resnet", num_classes=3)
    cds_lib.export_backbone(cds_lib.ContrastiveDeepSupervision(torch.compile(plain), 3), tmp_path / "network.pt")
    plain.load_state_dict(torch.load(tmp_path / "network.pt", weights_only=True))


def test_runs_that_cannot_be_exported_are_one_sentence(tmp_path, capsys):
    store, out = Store(tmp_path / "results"), tmp_path / "network.pt"
    bare = settings.supervised("mini", "cifar100", "resnet18", "baseline", 0)
    found = detector("smoke", "retinanet", "cds")
    for spec in (bare, found):
        write_run(store, spec, {})
    for run, sentence in (
        ("0123456789ab", "There is no finished run '0123456789ab' in"),
        (bare.id, "The weights of run"),
        (found.id, f"is a detector: export {found.parent.id}, the run that trained its backbone"),
    ):
        assert main(["export", run, str(out), "--results", str(store.root)]) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
    assert not out.exists()


def test_a_pre_training_says_that_its_classifier_was_not_trained(tmp_path, capsys):
    store = Store(tmp_path / "results")
    spec = contrastive("smoke", "supcon", 0).parent
    finished(store, spec, 1000)
    assert main(["export", spec.id, str(tmp_path / "network.pt"), "--results", str(store.root)]) == 0
    assert "the classifier was never trained" in capsys.readouterr().out
