"""What a run's status.json says of how its steps were computed."""

import sys
from pathlib import Path

import torch

from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.store import Store

sys.path.insert(0, str(Path(__file__).parent))
import sweeps  # noqa: E402


def test_a_run_whose_steps_cannot_be_compiled_is_trained_all_the_same_and_says_why(tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    compile_, store, spec = torch.compile, Store(tmp_path), sweeps.RUNS[0]
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend=broken, **options))
    torch.set_num_threads(1)
    execute(spec, store, Path("none"), Resources(compile_method=True), device="cpu")
    status = store.status(spec.id)
    assert status["state"] == "done" and "not compiled (RuntimeError: no compiler here)" in status["compiled"]
