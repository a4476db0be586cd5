"""All kinds of runs and the analyses on a non-CPU device: the same numbers, and no step waits for the device."""

import json

import pytest
from torch.utils import backend_registration

from cds_lib.study.plan.catalogue import METHODS
from cds_lib.study.processes import Worker

# The crop kernels of GPU and CPU sometimes round differently, and later steps amplify the difference.
RESIZED = ("imagenet", "contrastive")

pytestmark = pytest.mark.xdist_group("rehearsal")  # the fixture is costly: once, in one process


@pytest.fixture(scope="module")
def results(server, tmp_path_factory):
    """Return the output of `rehearsal.py`."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch has no devices made in Python")
    import rehearsal

    file = tmp_path_factory.mktemp("rehearsal") / "results.json"
    process = Worker(server, rehearsal.work, file, variables={})
    try:
        assert process.hear() == ("done", None)
    finally:
        process.kill()
    return json.loads(file.read_text())


def test_what_is_computed_there_is_what_the_cpu_computes(results):
    assert {name.split()[0] for name in results} == {"analyses", *METHODS}
    for name, found in results.items():
        assert "error" not in found, f"{name}: {found['error']}"
        if any(f" {augmentation}" in name for augmentation in RESIZED):
            losses = [key for key in found["cpu"] if key.startswith("train_")]
            assert [found["gpu"][key] for key in losses] == pytest.approx([found["cpu"][key] for key in losses], 0.02)
        else:
            assert found["gpu"] == found["cpu"], name


def test_what_a_captured_graph_has_the_addresses_of_is_not_replaced(results):
    assert not [(name, found["replaced"]) for name, found in results.items() if found.get("replaced")]


def test_no_step_waits_for_the_device(results):
    waits = {name: found["waits"] for name, found in results.items() if found["waits"]}
    # Detectors select boxes by score, and AutoAugment works on single images.
    allowed = {name for name in results if name.startswith("detection") or "autoaugment" in name}
    assert set(waits) == allowed
