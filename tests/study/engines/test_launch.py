"""One run on several processes: started, heard, killed, gone on with. The processes are real, the trainings tiny."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from fnmatch import fnmatch
from multiprocessing import connection
from pathlib import Path

import pytest
import torch

from cds_lib.errors import UsageError
from cds_lib.study import settings
from cds_lib.study.engines import gpus, launch, local_engine, runner
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.engines.local_engine import LocalEngine
from cds_lib.study.engines.progress import Progress
from cds_lib.study.errors import RunError
from cds_lib.study.store import Store
from run_folders import write_run

ROOT = Path(__file__).parents[3]


def tiny(epochs):
    spec = settings.supervised("smoke", "cifar10", "resnet18", "cds", 0)
    return replace(spec, budget=replace(spec.budget, train_size=42, batch_size=16, epochs=epochs))


def descendants(pid):
    """Process ids of children, their children and so on, with what each was started as."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
    found, border = {}, {pid}
    while border := {child for child, parent in parents.items() if parent in border}:
        found |= {child: commands.get(child, "") for child in border}
    return found


def ranks():
    """The processes that train a run for this test, and nothing else."""
    return {
        p
        for p, c in descendants(os.getpid()).items()
        if " -m cds_lib.study.engines.launch" in c and "torch.dis" not in c
    }


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_killed_process_ends_the_run_which_another_number_of_processes_finishes(tmp_path):
    store, spec = Store(tmp_path), tiny(epochs=12)
    killed_at = []

    class Killer(Progress):
        def advance(self, spec, epochs_done):
            super().advance(spec, epochs_done)
            if not killed_at and epochs_done > 1:  # the first epoch is safe
                first, second = sorted(ranks())
                os.kill(first, signal.SIGUSR2)  # the warning of Slurm, which is for another process
                killed_at.append(time.monotonic())
                os.kill(second, signal.SIGKILL)

    store.open_for_writing()
    failed = LocalEngine(1, processes=2).run([spec], store, tmp_path, Killer(1, 0, 1))
    assert time.monotonic() - killed_at[0] < 30  # it takes a second or two on a machine of one's own
    assert "died, perhaps for want of memory: see its log.txt" in failed[spec.id]
    assert not ranks()
    status = store.status(spec.id)
    assert (status["state"], status["error"], status["processes"]) == ("failed", failed[spec.id], 2)
    assert 1 <= len(store.history(spec.id)) < 12 and not store.is_done(spec.id)
    assert LocalEngine(1).run([spec], store, tmp_path, Progress(1, 0, 1)) == {}
    assert list(store.history(spec.id)["epoch"]) == list(range(1, 13)) and store.status(spec.id)["processes"] == 1


def test_a_run_on_two_processes_leaves_what_a_run_on_one_does(tmp_path):
    spec = tiny(epochs=2)
    two, one = Store(tmp_path / "two"), Store(tmp_path / "one")
    heard = []

    class Listening(Progress):
        def advance(self, spec, epochs_done):
            heard.append(epochs_done)

    for store, processes in ((two, 2), (one, 1)):
        store.open_for_writing()
        assert LocalEngine(1, processes).run([spec], store, tmp_path, Listening(1, 0, 1)) == {}
        assert heard[-1] == 2 and store.status(spec.id)["processes"] == processes
    assert {p.name for p in two.run_dir(spec.id).iterdir()} == {p.name for p in one.run_dir(spec.id).iterdir()}
    assert two.status(spec.id).keys() == one.status(spec.id).keys() and two.status(spec.id)["threads"] == 1
    assert list(two.history(spec.id)) == list(one.history(spec.id))
    assert two.metrics(spec.id).keys() == one.metrics(spec.id).keys()
    split = [(store.run_dir(spec.id) / "split.npz").read_bytes() for store in (one, two)]
    assert split[0] == split[1]
    # What is drawn is the same: losses differ by the batch norms' statistics and by what is contrasted.
    terms = [store.history(spec.id)["train_cross_entropy"].iloc[0] for store in (one, two)]
    assert terms[0] == pytest.approx(terms[1], rel=0.1) and terms[0] != terms[1]
    assert execute(spec, two, tmp_path, Resources(processes=2)) == two.metrics(spec.id)  # finished: only read


@pytest.mark.slow
def test_processes_find_each_other_where_the_name_of_the_machine_leads_nowhere(tmp_path):
    code = """
import json, socket, sys
from pathlib import Path
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.spec import RunSpec
from cds_lib.study.store import Store
socket.sethostname("nowhere.invalid")
execute(RunSpec.from_dict(json.loads(sys.argv[1])), Store(sys.argv[2]), Path(), Resources(processes=2))
"""
    alone = ["unshare", "--uts"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("only root may give a process a machine's name of its own, on Linux")
    spec = tiny(epochs=1)
    arguments = [sys.executable, "-c", code, json.dumps(spec.to_dict()), str(tmp_path)]
    subprocess.run([*alone, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=300)
    assert Store(tmp_path).is_trained(spec.id)


def test_the_callers_folder_and_options_of_another_torchrun_reach_no_process(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('the caller has a random.py')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("PET_NNODES", "2")  # it would wait for a second node
    store, spec = Store(tmp_path / "results"), tiny(epochs=1)
    store.open_for_writing()
    assert execute(spec, store, tmp_path, Resources(processes=2)) == store.metrics(spec.id)


def test_a_process_ends_when_its_launcher_has_gone(tmp_path):
    address = str(tmp_path / "news")
    where = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(1)
        process = subprocess.Popen(
            [sys.executable, "-m", "cds_lib.study.engines.launch", address],
            env={**os.environ, "PYTHONPATH": str(ROOT), **where},
            stderr=subprocess.DEVNULL,
        )
        news = connection.Connection(server.accept()[0].detach())
        assert news.recv() == ("rank", 0)
        orders = {"spec": tiny(2).to_dict(), "results": str(tmp_path), "data_root": "", "device": "cpu", "threads": 1}
        news.send({**orders, "workers": 0})
        time.sleep(0.2)
        assert process.poll() is None  # it waits for the second process
        news.close()
        assert process.wait(20) == 1


# Processes that speak as those of a training do, without training: what each says, or how it ends.
SPEAKERS = """
import sys, time
from multiprocessing import connection
from threading import Thread
def speak(rank, words):
    news = connection.Client(sys.argv[1], family="AF_UNIX")
    news.send(("rank", rank))
    news.recv()
    for word in words:
        time.sleep(0.1)
        news.send(word)
    time.sleep(0.1)
    news.close()
threads = [Thread(target=speak, args=[rank, words]) for rank, words in enumerate({words})]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([[("lost", "gloo")], [("progress", 1), ("progress", 2), ("failed", "The loss is nan.")]], "The loss is nan."),
        ([[("lost", "gloo")], [("progress", 1)]], "Process 1 of the training died"),
        ([[], [("progress", 1), ("failed", "The disk is full.")]], "The disk is full."),
        ([], "The 2 processes of the training could not be started"),
    ],
)
def test_the_most_telling_end_is_the_reason(tmp_path, monkeypatch, words, says):
    def start(resources, address):
        return subprocess.Popen([sys.executable, "-c", SPEAKERS.replace("{words}", repr(words)), address])

    monkeypatch.setattr(launch, "_start", start)
    store, spec, heard = Store(tmp_path), tiny(2), []
    with pytest.raises(RunError, match=says):
        execute(spec, store, tmp_path, Resources(processes=2), on_progress=heard.append)
    assert store.status(spec.id)["state"] == "failed" and says in store.status(spec.id)["error"]
    assert heard == [word[1] for speaker in words for word in speaker if word[0] == "progress"]


def test_a_process_that_waits_for_one_that_died_is_not_waited_for(tmp_path, monkeypatch):
    words = [[("progress", 1)], [("progress", 1)] * 600]  # the second goes on for a minute
    code = SPEAKERS.replace("{words}", repr(words))
    monkeypatch.setattr(launch, "_start", lambda _, address: subprocess.Popen([sys.executable, "-c", code, address]))
    monkeypatch.setattr(launch, "_SECONDS_TO_END", 0.5)
    began = time.monotonic()
    with pytest.raises(RunError, match="Process 0 of the training died"):
        execute(tiny(2), Store(tmp_path), tmp_path, Resources(processes=2))
    assert time.monotonic() - began < 30


def test_a_run_that_another_command_trains_is_left_alone(tmp_path, monkeypatch):
    words = [[("failed", "Run 1 is being trained by process 2.")], [("lost", "gloo")]]
    code = SPEAKERS.replace("{words}", repr(words))
    monkeypatch.setattr(launch, "_start", lambda _, address: subprocess.Popen([sys.executable, "-c", code, address]))
    store, spec = Store(tmp_path), tiny(2)
    with store.lock_run(spec.id):
        store.write_status(spec.id, state="running")
        with pytest.raises(RunError, match="is being trained by process 2"):
            execute(spec, store, tmp_path, Resources(processes=2))
        assert store.status(spec.id) == {"state": "running"}


def test_a_process_that_ends_badly_after_the_training_is_finished_loses_nothing(tmp_path, monkeypatch):
    words = [[("progress", 2)], [("failed", "The group could not be ended.")]]
    code = SPEAKERS.replace("{words}", repr(words))
    monkeypatch.setattr(launch, "_start", lambda _, address: subprocess.Popen([sys.executable, "-c", code, address]))
    store, spec = Store(tmp_path), tiny(2)

    def finish(epochs):  # what the first process writes meanwhile
        write_run(store, spec, {"test_top1_last": 5.0}, {"state": "done"}).joinpath("model.pt").touch()

    assert execute(spec, store, tmp_path, Resources(processes=2), on_progress=finish) == {"test_top1_last": 5.0}
    assert store.status(spec.id)["state"] == "done"


@pytest.mark.parametrize("device", ["/dev/nvidia0", "/dev/dxg", "/dev/kfd"])
@pytest.mark.parametrize(
    ("chosen", "names"), [("2,0", ["2", "0"]), ("-1", []), ("1,-1,2", ["1"]), ("", ["0", "1", "2"])]
)
def test_the_gpus_that_cuda_would_see(device, chosen, names, monkeypatch):
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: [device] * fnmatch(device, pattern))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus.visible() == names


def test_a_driver_without_a_gpu_is_none(monkeypatch):
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: [pattern])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpus.visible() == []


def test_a_gpu_that_pytorch_cannot_use_is_not_passed_over_in_silence(monkeypatch):
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: [pattern])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for ask in (gpus.device, gpus.visible, lambda: gpus.check(1)):
        with pytest.raises(UsageError, match="sees a GPU and cannot use it: update the driver, or set CUDA_VISIBLE"):
            ask()


def test_gpus_are_shared_out_and_too_few_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "visible", lambda: ["4", "5", "6", "7", "8"])
    assert [local_engine.default_jobs(n) for n in (1, 2, 3, 5)] == [5, 2, 1, 1]
    with pytest.raises(UsageError, match="8 processes needs as many GPUs, and this machine has 5"):
        local_engine.default_jobs(8)
    with pytest.raises(UsageError, match="8 processes needs as many GPUs"):
        runner.train_missing(runner.Plan((), (tiny(2),), ()), Store(tmp_path), tmp_path, LocalEngine(1, processes=8))
    with pytest.raises(UsageError, match="8 processes needs as many GPUs"):
        execute(tiny(2), Store(tmp_path), tmp_path, Resources(processes=8))
    started = []

    def start(context, spec, store, data_root, resources):
        started.append(resources.gpus)
        raise InterruptedError

    monkeypatch.setattr(local_engine, "_start", start)
    for processes in (1, 2, 3):
        with pytest.raises(InterruptedError):
            LocalEngine(1, processes).run([tiny(2)], Store(tmp_path), tmp_path, Progress(1, 0, 1))
    assert started == ["4", "4,5", "4,5,6"]
