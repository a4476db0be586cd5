"""Images decoded during training: the same batches with any workers, nearly Pillow's pixels, damaged files named."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from PIL import Image

from cds_lib.augment.share import Share
from cds_lib.augment.views import AUGMENTATIONS, statistics
from cds_lib.errors import UsageError
from cds_lib.study import processes
from cds_lib.study.data import stream
from cds_lib.study.data.stream import Decoder, StreamedBatches, StreamedEvaluation, decode
from cds_lib.study.errors import RunError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random, paths = np.random.default_rng(0), []
    for number in range(9):
        size = [(40, 60, 3), (60, 40, 3), (45, 45)][number % 3]  # every third image is grey
        paths.append(folder / f"{number}.png")
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    return paths


def make(files, **options):
    defaults = {"batch_size": 4, "seed": 3, "views": 2, "augmentation": "imagenet", "size": 28, "workers": 0}
    return StreamedBatches(files, torch.arange(len(files)), device=CPU, **{**defaults, **options})


def same(left, right):
    return all(
        torch.equal(a, b)
        for (va, la, ia), (vb, lb, ib) in zip(left, right, strict=True)
        for a, b in [*zip(va, vb, strict=True), (la, lb), (ia, ib)]
    )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_image_once_with_its_label_in_views_of_the_size(files, name):
    batches, seen = make(files[:8], augmentation=name), []
    for views, labels, index in batches.epoch(0):
        assert [view.shape for view in views] == [(4, 3, 28, 28)] * 2 and not torch.equal(*views)
        assert torch.equal(labels, index)
        seen += index.tolist()
    assert sorted(seen) == list(range(8)) and len(batches) == 2


def test_the_number_of_workers_changes_nothing(files):
    alone = list(make(files).epoch(1))
    assert [len(labels) for _, labels, _ in alone] == [4, 4]  # a last batch of one image is left out
    assert same(alone, list(make(files, workers=2).epoch(1))) and not same(alone, list(make(files).epoch(2)))


def test_one_view_and_two_views_are_paired_and_nothing_global_is_drawn(files):
    before = torch.get_rng_state()
    for (one, *_), (two, *_) in zip(make(files, views=1).epoch(0), make(files).epoch(0), strict=True):
        assert torch.equal(one[0], two[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_is_torchvision_s_to_a_grey_level(files):
    transform = T.Compose([T.Resize(32), T.CenterCrop(28), T.ToTensor(), T.Normalize(*statistics("imagenet"))])
    wanted = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    parts = list(StreamedEvaluation(files, torch.arange(9), 4, "imagenet", 28, CPU, 0))
    assert [len(labels) for _, labels in parts] == [4, 4, 1]
    levels = torch.tensor(statistics("imagenet")[1])[:, None, None] * 255
    apart = ((torch.cat([images for images, _ in parts]) - wanted) * levels).abs().round()
    assert (apart > 0).float().mean() < 0.1 and (apart > 1).float().mean() < 0.001  # noise is the worst case


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_is_named_in_one_sentence(files, tmp_path, workers):
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:400])
    with pytest.raises(RunError, match="broken.png cannot be used") as caught:
        list(make([*files[:3], broken], workers=workers).epoch(0))
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(broken))


@pytest.mark.parametrize("change", [{"augmentation": "cifar"}, {"augmentation": "none"}, {"batch_size": 10}])
def test_impossible_options_are_refused(files, change):
    with pytest.raises(UsageError):
        make(files, **change)


@pytest.mark.parametrize("workers", [0, 1])
def test_several_processes_decode_their_own_images_to_the_pixels_of_one(files, workers, monkeypatch):
    whole = list(make(files).epoch(1))  # batches of 4 and 4; the last image is left out
    decoded = []
    monkeypatch.setattr(stream, "decode", lambda path: decoded.append(path) or decode(path))
    parts = [list(make(files, workers=workers, share=Share(rank, 2)).epoch(1)) for rank in range(2)]
    for (views, labels, index), *own in zip(whole, *parts, strict=True):
        for number, view in enumerate(views):
            assert torch.equal(torch.cat([part[0][number] for part in own]), view)
        assert torch.equal(torch.cat([part[1] for part in own]), labels)
        assert all(torch.equal(part[2], index) for part in own)
    if not workers:
        assert sorted(decoded) == sorted(files[i] for _, labels, _ in whole for i in labels.tolist())


class Who:
    """A dataset whose items are the id of the process that loads them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return os.getpid()


def training(pipe):
    batches = Decoder(Who(), CPU, 1).batches([[0], [1], [2], [3]])
    pipe.send((next(batches).item(), os.getpid()))
    time.sleep(600)


def test_the_workers_of_a_training_that_is_killed_end(server):
    ours, theirs = server.Pipe()
    process = server.Process(target=training, args=(theirs,))
    process.start()
    theirs.close()
    try:
        worker, trainer = ours.recv()
        assert _runs(worker) and trainer == process.pid
        process.kill()
        deadline = time.monotonic() + 30
        while _runs(worker) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _runs(worker)
    finally:
        process.kill()
        process.join()


def _runs(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def test_a_part_without_images_is_evaluated_as_nothing():
    assert list(StreamedEvaluation([], torch.arange(0), 4, "imagenet", 28, CPU, 0)) == []


WORKERS_OF_A_TRAINING = """
import os, sys, torch
from pathlib import Path
from torch.utils.data import Dataset
from cds_lib.study.data.stream import Decoder

class Server(Dataset):
    def __getitem__(self, index):
        return torch.tensor([index, os.getpid(), "libtorch" in Path(f"/proc/{os.getppid()}/maps").read_text()])

if __name__ == "__main__":
    decoder = Decoder(Server(), torch.device("cpu"), 2)
    for keys in ([[0], [1]], [[2]]):
        print(*(batch[0].tolist() for batch in decoder.batches(keys)), sep="\\n")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_are_kept_and_need_not_import_what_their_server_has(tmp_path):
    """Otherwise each worker would take seconds, one after another, in every epoch."""
    script = tmp_path / "training.py"
    script.write_text(WORKERS_OF_A_TRAINING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    items, pids, imported = zip(*(json.loads(line) for line in done.stdout.splitlines()), strict=True)
    assert (items, imported) == ((0, 1, 2), (1, 1, 1)) and pids[0] != pids[1] and pids[2] in pids[:2]


def test_as_many_files_as_the_system_lets(monkeypatch):
    """Each image that a worker has prepared is an open file of the training process."""
    limits = {"now": (100, 5_000)}
    monkeypatch.setattr(processes.resource, "getrlimit", lambda kind: limits["now"])
    monkeypatch.setattr(processes.resource, "setrlimit", lambda kind, new: limits.update(now=new))
    processes.allow_many_files()
    assert limits["now"] == (5_000, 5_000)
    limits["now"] = (100, processes.resource.RLIM_INFINITY)
    processes.allow_many_files()
    assert limits["now"] == (65_536, processes.resource.RLIM_INFINITY)
    limits["now"] = (100_000, 200_000)
    processes.allow_many_files()
    assert limits["now"] == (100_000, 200_000)


@pytest.mark.slow
def test_full_shared_memory_is_named_with_what_to_do(python, files):
    """Workers pass batches through shared memory, of which containers have little."""
    program = f"""
import subprocess, sys, torch
from pathlib import Path
from cds_lib.study.data.stream import StreamedBatches
from cds_lib.study.errors import RunError
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", "/dev/shm"], check=True)
options = dict(batch_size=4, seed=0, views=2, augmentation="imagenet", size=224, device=torch.device("cpu"), workers=1)
try:
    list(StreamedBatches({list(map(str, files[:4]))!r}, torch.arange(4), **options).epoch(0))
except RunError as error:
    print(error)
"""
    alone = ["unshare", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system, on Linux")
    said = python(program, prefix=alone)
    assert "/dev/shm (--shm-size of a container)" in said and "run the same command again" in said
    assert len(said.splitlines()) == 1  # PyTorch 2.9 dies; later versions report that no space is left
