"""One run on several processes is killed, resumed, and explains its end; and the GPUs that processes get."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from fnmatch import fnmatch
from multiprocessing import Pipe

import pytest
import torch

from cds_lib.errors import UsageError
from cds_lib.study.engines import gpus, launch, local_engine
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.errors import RunError
from cds_lib.study.plan import settings
from cds_lib.study.processes import Worker
from cds_lib.study.store import Store
from run_folders import write_run

TWO = Resources(processes=2)


def tiny(epochs):
    spec = settings.supervised("smoke", "cifar10", "resnet18", "cds", 0)
    return replace(spec, budget=replace(spec.budget, train_size=42, batch_size=16, epochs=epochs))


def test_a_killed_process_ends_the_run_which_another_number_of_processes_finishes(tmp_path, monkeypatch):
    store, spec = Store(tmp_path), tiny(epochs=12)
    processes, killed_at = [], []

    class Noted(Worker):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self.process)

    def kill(epochs_done):
        if not killed_at and epochs_done > 1:  # the first epoch is saved
            os.kill(processes[0].pid, signal.SIGUSR2)  # Slurm's warning signal, meant for another process
            killed_at.append(time.monotonic())
            processes[1].kill()

    monkeypatch.setattr(launch, "Worker", Noted)
    with pytest.raises(RunError, match="Process 1 of the training died, perhaps out of memory") as caught:
        execute(spec, store, tmp_path, TWO, kill)
    assert time.monotonic() - killed_at[0] < 30  # one or two seconds on a quiet machine
    assert not any(process.is_alive() for process in processes)
    status = store.status(spec.id)
    assert (status["state"], status["error"], status["processes"]) == ("failed", str(caught.value), 2)
    assert 1 <= len(store.history(spec.id)) < 12 and not store.is_done(spec.id)
    execute(spec, store, tmp_path, Resources(threads=1))
    assert list(store.history(spec.id)["epoch"]) == list(range(1, 13)) and store.status(spec.id)["processes"] == 1


def test_a_run_on_two_processes_leaves_what_a_run_on_one_does(tmp_path):
    spec, heard = tiny(epochs=2), []
    two, one = Store(tmp_path / "two"), Store(tmp_path / "one")
    for store, resources in ((two, TWO), (one, Resources(threads=1))):
        execute(spec, store, tmp_path, resources, heard.append)
        assert heard[-1] == 2 and store.status(spec.id)["processes"] == resources.processes
        heard.clear()
    assert {p.name for p in two.run_dir(spec.id).iterdir()} == {p.name for p in one.run_dir(spec.id).iterdir()}
    assert two.status(spec.id).keys() == one.status(spec.id).keys() and two.status(spec.id)["threads"] == 1
    assert list(two.history(spec.id)) == list(one.history(spec.id))
    assert two.metrics(spec.id).keys() == one.metrics(spec.id).keys()
    split = [(store.run_dir(spec.id) / "split.npz").read_bytes() for store in (one, two)]
    assert split[0] == split[1]
    # All random draws are equal. Losses differ in batch-norm statistics and in the contrasted images.
    terms = [store.history(spec.id)["train_cross_entropy"].iloc[0] for store in (one, two)]
    assert terms[0] == pytest.approx(terms[1], rel=0.1) and terms[0] != terms[1]
    assert execute(spec, two, tmp_path, TWO) == two.metrics(spec.id)  # a finished run is only read


@pytest.mark.slow
def test_processes_find_each_other_where_the_name_of_the_machine_leads_nowhere(python, tmp_path):
    code = """
import json, socket, sys
from pathlib import Path
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.store import Store
socket.sethostname("nowhere.invalid")
execute(RunSpec.from_dict(json.loads(sys.argv[1])), Store(sys.argv[2]), Path(), Resources(processes=2))
"""
    alone = ["unshare", "--uts"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("only root may give a process a machine's name of its own, on Linux")
    spec = tiny(epochs=1)
    python(code, json.dumps(spec.to_dict()), tmp_path, prefix=alone)
    assert Store(tmp_path).is_trained(spec.id)


class Scripted:
    """A process that sends these words. It runs forever if none of them is an end."""

    def __init__(self, words):
        pipe, self.theirs = Pipe(duplex=False)
        self.fileno, self.hear, self.kill = pipe.fileno, pipe.recv, pipe.close
        for word in words:
            self.theirs.send(word)


PROGRESS, LOST = ("progress", 1), ("done", "Connection closed by peer: gloo")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([[LOST], [PROGRESS, ("failed", "The loss is nan.")]], "The loss is nan."),
        ([[LOST], [PROGRESS, ("died", "signal 9")]], "Process 1 of the training died"),
        ([[("died", "signal 9")], [PROGRESS, ("failed", "The disk is full.")]], "The disk is full."),
        ([[PROGRESS, ("died", "signal 9")], [PROGRESS]], "Process 0 of the training died"),  # process 1 waits for it
    ],
)
def test_the_most_telling_end_is_the_reason(tmp_path, monkeypatch, words, says):
    scripts = iter(words)
    monkeypatch.setattr(launch, "Worker", lambda *arguments, **options: Scripted(next(scripts)))
    monkeypatch.setattr(launch, "_SECONDS_TO_END", 0.5)
    store, spec, heard = Store(tmp_path), tiny(2), []
    with pytest.raises(RunError, match=says):
        execute(spec, store, tmp_path, TWO, on_progress=heard.append)
    assert store.status(spec.id)["state"] == "failed" and says in store.status(spec.id)["error"]
    assert heard == [1] * sum(speaker.count(PROGRESS) for speaker in words)


def test_what_another_process_has_finished_or_goes_on_with_is_left_alone(tmp_path, monkeypatch):
    scripts = [[PROGRESS], [("failed", "Run 1 is being trained by process 2.")]]
    monkeypatch.setattr(launch, "Worker", lambda *arguments, **options: Scripted(scripts.pop()))
    monkeypatch.setattr(launch, "_SECONDS_TO_END", 0.5)
    store, spec = Store(tmp_path), tiny(2)
    with store.lock_run(spec.id):
        store.write_status(spec.id, state="running")
        with pytest.raises(RunError, match="is being trained by process 2"):
            execute(spec, store, tmp_path, TWO)
        assert store.status(spec.id) == {"state": "running"}

    def finish(epochs):  # written by the first process before the second one fails
        write_run(store, spec, {"test_top1_last": 5.0}, {"state": "done"}).joinpath("model.pt").touch()

    scripts[:] = [[PROGRESS], [PROGRESS, ("failed", "The group could not be ended.")]]
    assert execute(spec, store, tmp_path, TWO, on_progress=finish) == {"test_top1_last": 5.0}
    assert store.status(spec.id)["state"] == "done"


@pytest.mark.parametrize(
    ("device", "chosen", "names"),
    [
        *(
            ("/dev/nvidia0", *each)
            for each in (("2,0", ["2", "0"]), ("-1", []), ("1,-1,2", ["1"]), ("0,1,2,7", ["0", "1", "2"]))
        ),
        *((device, "", ["0", "1", "2"]) for device in ("/dev/nvidia0", "/dev/dxg", "/dev/kfd")),
    ],
)
def test_the_gpus_that_cuda_would_see(device, chosen, names, monkeypatch):
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: [device] * fnmatch(device, pattern))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus.visible() == names


def test_a_gpu_that_pytorch_cannot_use_is_not_passed_over_in_silence(monkeypatch):
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: [pattern])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpus.visible() == []  # a driver without a GPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for ask in (gpus.device, gpus.visible, lambda: gpus.check(1)):
        with pytest.raises(UsageError, match="sees a GPU and cannot use it"):
            ask()


def test_gpus_are_shared_out_and_too_few_are_one_sentence(tmp_path, monkeypatch):
    devices = ["4", "5", "6", "7", "8"]
    monkeypatch.setattr(gpus, "visible", lambda: devices)
    assert [local_engine.default_jobs(n) for n in (1, 2, 3, 5)] == [5, 2, 1, 1]
    shares = {n: [local_engine.own_gpus(devices, number, n) for number in (0, 1, 2)] for n in (2, 3)}
    shared = {n: [own["CUDA_VISIBLE_DEVICES"] for own in each] for n, each in shares.items()}
    assert shared == {2: ["4,5", "6,7", "4,5"], 3: ["4,5,6"] * 3} and local_engine.own_gpus([], 1) == {}
    for ask in (
        lambda: LocalEngine(1, processes=8).run([tiny(2)], Store(tmp_path), tmp_path, Progress(1, 0), print),
        lambda: execute(tiny(2), Store(tmp_path), tmp_path, Resources(processes=8)),
    ):
        with pytest.raises(UsageError, match="8 processes needs as many GPUs, and this machine has 5"):
            ask()
