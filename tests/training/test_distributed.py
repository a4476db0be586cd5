"""Two processes on the CPU give the same losses, gradients, trainings and evaluations as one."""

import socket

import pytest
import torch

import two_processes
from cds_lib.augment.share import Share
from cds_lib.errors import UsageError
from cds_lib.models import create_backbone
from cds_lib.study.engines.build import create_method
from cds_lib.study.processes import Worker, kill
from cds_lib.training.distributed import Group

METHODS = (
    "baseline dsn dks dhm linear supcon byol cds cds_simclr cds_unlabelled cds_kd cds_kd_mse "
    "kd at rkd sp cc crd sskd_teacher sskd okd"
).split()
TIMINGS = {"seconds", "images_per_second"}


pytestmark = pytest.mark.xdist_group("distributed")  # the fixture is costly: once, in one process


@pytest.fixture(scope="module")
def results(server, tmp_path_factory):
    """Return the results of `two_processes.py`."""
    file = tmp_path_factory.mktemp("two") / "results.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = []
    try:
        for rank in ("0", "1"):
            ranks.append(Worker(server, two_processes.work, file, variables={**where, "RANK": rank}))
        assert [rank.hear() for rank in ranks] == [("done", None)] * 2
    finally:
        kill(ranks)
    return torch.load(file, weights_only=True)


def assert_close(found, expected, tolerance=1e-6):
    """Check that all tensors agree up to rounding, relative to the largest value of all."""
    assert found.keys() == expected.keys()
    largest = max(1.0, *(value.abs().max().item() for value in expected.values()))
    for name, value in expected.items():
        assert (found[name].double() - value.double()).abs().max() <= tolerance * largest, name


@pytest.mark.parametrize("case", METHODS)
def test_terms_gradients_and_buffers_are_those_of_one_process_on_the_whole_batch(results, case):
    two, one = results["methods"][case], results["methods alone"][case]
    for step in range(2):
        assert two["terms"][step] == pytest.approx(one["terms"][step], rel=1e-9, abs=1e-9)
        assert_close(two["gradients"][step], one["gradients"][step], 1e-9)
    assert_close(two["state"], one["state"], 1e-9)


@pytest.mark.parametrize("case", ["cds_released", "cds_kd_released"])
def test_without_gather_each_process_contrasts_its_own_images(results, case):
    terms = results["methods"][case]["terms"][0]
    assert terms == pytest.approx(results["released"][case], rel=1e-6)
    whole = results["methods"][case.removesuffix("_released")]["terms"][0]
    assert terms["cross_entropy"] == pytest.approx(whole["cross_entropy"], rel=1e-6)
    assert abs(terms["contrastive_1"] - whole["contrastive_1"]) > 0.01
    if case == "cds_kd_released":  # the norm of fewer rows is smaller
        assert terms["feature_1"] < 0.9 * whole["feature_1"]


def test_gathering_under_plain_ddp_gives_the_gradient_of_the_whole_batch(results):
    assert_close(results["own loop"], results["own loop alone"], 1e-9)


def assert_same_training(found, expected, tolerance):
    for row, other in zip(found["rows"], expected["rows"], strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - TIMINGS:
            assert row[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), name
    assert_close(found["state"], expected["state"], tolerance)


@pytest.mark.parametrize("how", ["training", "two then one", "one then two"])
def test_a_training_is_that_of_one_process_also_resumed_with_another_number(results, how):
    assert_same_training(results[how], results["training alone"], 1e-4)


def test_a_detector_trains_and_is_evaluated_as_by_one_process(results):
    """The last batch has one image, so the second process has none of it."""
    assert_same_training(results["detection"]["retinanet"], results["detection alone"]["retinanet"], 1e-4)
    (row,) = results["detection"]["faster_rcnn"]["rows"]  # it samples boxes, so losses differ between processes
    assert 0 < row["train_loss"] < 100 and 0 <= row["ap"] <= 100


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_are_nearly_equal_and_make_up_the_whole(world):
    for count in (1, 2, 7, 64):
        parts = [list(range(count))[Share(rank, world).of(count)] for rank in range(world)]
        assert sum(parts, []) == list(range(count))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


def test_batch_norms_of_several_cpus_cannot_be_synchronised():
    class Asked:
        gather, sync_batchnorm = None, True

    method = create_method("baseline", create_backbone("resnet18", 4, width=0.0625), 4, {})
    Group().join(method, Asked, torch.device("cpu"))  # not needed with one process
    with pytest.raises(UsageError, match="on GPUs only"):
        Group(1, 2).join(method, Asked, torch.device("cpu"))
