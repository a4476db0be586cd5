"""What the first notebook shows: the same views as in training, the named losses, and a result that is written."""

import shutil
from pathlib import Path

import pytest
import torch

from cds_lib import ContrastiveDeepSupervision
from cds_lib.findings import lesson
from cds_lib.models import create_backbone
from cds_lib.reporting import views
from cds_lib.session import open_study

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "mini" / "runs"


@pytest.fixture
def study(tmp_path):
    """The first notebook's study with one of its two runs, the one with CDS, finished."""
    opened = open_study("00_start_here", profile="mini", results=str(tmp_path))
    (_, cds) = opened.table.runs("mini", opened.seeds)
    shutil.copytree(COMMITTED / cds.id, opened.store.run_dir(cds.id))
    return opened


def test_a_batch_is_two_views_of_the_same_images_and_the_losses_are_named():
    view1, view2, labels = lesson.batch(4)
    assert view1.shape == view2.shape == (4, 3, 32, 32)
    assert not torch.equal(view1, view2)
    assert torch.equal(view1, lesson.batch(4)[0])
    assert labels.shape == (4,) and labels.dtype == torch.int64
    torch.manual_seed(0)
    method = ContrastiveDeepSupervision(create_backbone("resnet18", 10, width=0.125), 10)
    losses = method(view1, view2, labels)
    text = lesson.losses_table(losses).data
    assert [name for name in losses if f"<td>{name}</td>" in text] == list(losses)
    assert f"<td>{sum(losses.values()).item():.3f}</td>" in text


def test_the_heads_are_counted_apart_from_the_network():
    method = ContrastiveDeepSupervision(create_backbone("resnet18", 10, width=0.125), 10)
    network = sum(p.numel() for p in method.backbone.parameters())
    heads = sum(p.numel() for p in method.heads.parameters())
    assert f"The network alone has {network:,} parameters; the heads" in lesson.taps_table(method).data
    assert f"{heads:,}.</figcaption>" in lesson.taps_table(method).data


def test_the_plan_says_what_is_the_same_in_every_profile(study):
    text = views.plan(study).data
    assert "The same in every profile" in text
    assert "16x16" not in text
    assert "Seed: 0. 2 runs: 1 done, 1 to train." in text


def test_the_result_is_shown_and_written(study):
    (_, cds) = study.table.runs("mini", study.seeds)
    text = lesson.result(study).data
    assert "<td>not run</td>" in text
    assert f"<td>{study.store.metrics(cds.id)['test_top1_last']:.2f}</td>" in text
    assert {path.suffix for path in (study.store.root / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert "The same in every profile" in (study.store.root / "tables" / "00_start_here.md").read_text()
