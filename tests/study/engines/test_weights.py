"""Damaged weights and weights of another run are refused; without them a run gives the same result."""

import random
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import sweeps
from cds_lib.errors import TrainingError
from cds_lib.study.engines import execute as module
from cds_lib.study.engines import provenance, setup
from cds_lib.study.engines.execute import execute
from cds_lib.study.engines.launch import Resources
from cds_lib.study.errors import RunError
from cds_lib.study.store import Store
from cds_lib.training import checkpoint
from toys import Evil

pytestmark = pytest.mark.xdist_group("weights")  # the fixture is costly: once, in one process
BASELINE, _, TEACHER, STUDENT = sweeps.RUNS
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    for spec in (BASELINE, TEACHER, STUDENT):
        execute(spec, store, Path("none"))
    return store


def history(store, spec):
    return store.history(spec.id).drop(columns=["seconds", "images_per_second"]).to_csv()


def interrupted(root, monkeypatch, epoch=1):
    """Return a store with a run that Ctrl-C stopped between an epoch's checkpoint and its row in history.csv."""

    def write_text(path, text):
        if text.count("\n") == epoch + 1:
            raise KeyboardInterrupt

    store = Store(root)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_text", write_text)
        execute(BASELINE, store, Path("none"))
    assert store.status(BASELINE.id)["state"] == "interrupted"
    return store


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_epoch_that_was_not_written_yet_is_in_the_history(epoch, undisturbed, tmp_path, monkeypatch):
    store = interrupted(tmp_path, monkeypatch, epoch)
    assert store.history(BASELINE.id).empty
    execute(BASELINE, store, Path("none"))
    assert history(store, BASELINE) == history(undisturbed, BASELINE)
    assert "earlier" not in store.status(BASELINE.id)


def test_a_run_that_goes_on_with_other_kernels_records_both(tmp_path, monkeypatch):
    store = interrupted(tmp_path, monkeypatch)
    before = {name: store.status(BASELINE.id)[name] for name in ("instructions", "versions")}
    monkeypatch.setattr(provenance, "instructions", lambda: {"pytorch": "others"})
    execute(BASELINE, store, Path("none"))
    assert store.status(BASELINE.id)["earlier"] == [before]


def test_no_flipped_byte_changes_what_is_loaded(undisturbed, tmp_path):
    """torch.load does not check checksums, so a flipped byte would change a weight."""
    whole = undisturbed.model(TEACHER.id).read_bytes()
    expected = checkpoint.load(undisturbed.model(TEACHER.id), CPU)
    chance, path, refused = random.Random(0), tmp_path / "model.pt", 0
    for _ in range(40):
        content = bytearray(whole)
        content[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            found = checkpoint.load(path, CPU)
        except TrainingError as error:
            assert f"{path} is damaged" in str(error)
            refused += 1
        else:  # the byte was between the archive members
            assert found["spec"] == expected["spec"]
            assert all(torch.equal(found["method"][name], value) for name, value in expected["method"].items())
    assert refused > 20


def damages(path):
    whole = path.read_bytes()
    yield b""
    yield whole[: len(whole) // 2]
    yield whole[:-30]
    yield b"no archive"
    torch.save({"method": {}}, path)
    yield path.read_bytes()


def test_a_damaged_checkpoint_is_named_and_without_it_the_result_is_the_same(undisturbed, tmp_path, monkeypatch):
    store = interrupted(tmp_path, monkeypatch)
    path = store.checkpoint(BASELINE.id)
    for content in damages(path):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="checkpoint.pt (is|belongs to) .*: delete it and run again"):
            execute(BASELINE, store, Path("none"))
        assert store.status(BASELINE.id)["state"] == "failed" and path.read_bytes() == content
    path.unlink()
    execute(BASELINE, store, Path("none"))
    assert history(store, BASELINE) == history(undisturbed, BASELINE)


def test_a_checkpoint_of_another_seed_is_refused_one_without_a_spec_not(undisturbed, tmp_path, monkeypatch):
    store = interrupted(tmp_path, monkeypatch, epoch=2)
    other = BASELINE.with_seed(1)
    store.run_dir(other.id).mkdir()
    store.checkpoint(other.id).write_bytes(store.checkpoint(BASELINE.id).read_bytes())
    with pytest.raises(TrainingError, match=f"{other.id}/checkpoint.pt belongs to another training: delete it"):
        execute(other, store, Path("none"))
    state = checkpoint.load(store.checkpoint(BASELINE.id), CPU)
    del state["spec"]  # like version 0.1.0
    checkpoint.save(store.checkpoint(BASELINE.id), state)
    execute(BASELINE, store, Path("none"))
    assert history(store, BASELINE) == history(undisturbed, BASELINE)


def test_a_student_refuses_a_damaged_teacher_and_one_that_is_not_its_own(undisturbed, store):
    execute(TEACHER, store, Path("none"))
    path = store.model(TEACHER.id)
    for content in [*damages(path), undisturbed.model(BASELINE.id).read_bytes()]:
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="model.pt .*: delete it and run again"):
            execute(STUDENT, store, Path("none"))
        assert not store.is_done(STUDENT.id)
    path.unlink()
    execute(TEACHER, store, Path("none"))
    execute(STUDENT, store, Path("none"))
    assert history(store, STUDENT) == history(undisturbed, STUDENT)
    path.unlink()  # the teacher is not part of the learned weights
    student, trained = setup.load_trained(STUDENT, 10, store), setup.trained_weights(STUDENT, store)
    assert student.state_dict().keys() == trained.keys()


def test_a_run_whose_weights_are_kept_with_the_results_is_trained(undisturbed, tmp_path):
    """A clone has these weights instead of model.pt. Child runs can start from them; other files are refused."""
    store, trained = Store(tmp_path), setup.trained_weights(TEACHER, undisturbed)
    shutil.copytree(undisturbed.run_dir(TEACHER.id), store.run_dir(TEACHER.id))
    store.model(TEACHER.id).unlink()
    assert not store.is_trained(TEACHER.id)
    setup.keep_weights(tmp_path / "weights", TEACHER, trained, undisturbed.status(TEACHER.id)["weights"])
    found = setup.trained_weights(TEACHER, store)
    assert store.is_trained(TEACHER.id) and found.keys() == trained.keys()
    assert all(torch.equal(found[name], value) for name, value in trained.items())
    execute(STUDENT, store, Path("none"))
    assert history(store, STUDENT) == history(undisturbed, STUDENT)

    path = store.model(TEACHER.id)
    whole = bytearray(path.read_bytes())
    for place in (20, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RunError, match=f"{path.name} is not the file that SHA256SUMS beside it names"):
            setup.trained_weights(TEACHER, store)
    setup.keep_weights(tmp_path / "weights", TEACHER, trained, "0" * 64)  # weights of another training of the run
    with pytest.raises(RunError, match="does not hold the weights of run"):
        setup.trained_weights(TEACHER, store)


def test_weights_that_would_run_code_are_refused(tmp_path):
    torch.save({"method": Evil(Path.touch, tmp_path / "ran")}, tmp_path / "model.pt")
    with pytest.raises(TrainingError, match="is damaged"):
        checkpoint.load(tmp_path / "model.pt", CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "Permission denied")])
def test_a_file_that_may_be_whole_is_not_called_damaged(error, undisturbed, monkeypatch):
    monkeypatch.setattr(torch, "load", Mock(side_effect=error))
    with pytest.raises(type(error)):
        checkpoint.load(undisturbed.model(TEACHER.id), CPU)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: torch.empty(1 << 50), r"This machine is out of memory: run fewer jobs at a time \(--jobs\)"),
        (MemoryError, r"This machine is out of memory"),
        (torch.cuda.OutOfMemoryError, r"fewer jobs .*--jobs.* several GPUs \(--processes N, see docs/cluster\.md\)"),
        (lambda: ValueError("no\nidea"), r"^ValueError: no \(the traceback is in the run's log\.txt\)"),
    ],
)
def test_what_a_training_can_run_into_is_one_sentence(ask, says, tmp_path, monkeypatch):
    def fit(*arguments, **options):
        raise ask()

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(RunError, match=says) as caught:
        execute(BASELINE, Store(tmp_path), Path("none"))
    assert Store(tmp_path).status(BASELINE.id)["error"] == str(caught.value)


def test_weights_of_another_run_or_of_another_training_are_refused(undisturbed, tmp_path):
    store, other = Store(tmp_path), TEACHER.with_seed(1)
    for spec in (TEACHER, other):
        store.run_dir(spec.id).mkdir(parents=True)
        store.model(spec.id).write_bytes(undisturbed.model(TEACHER.id).read_bytes())
    with pytest.raises(RunError, match=f"does not hold the weights of run {other.id}"):
        setup.load_trained(other, 10, store)
    setup.load_trained(TEACHER, 10, store)  # version 0.1.0 recorded no hash
    store.write_status(TEACHER.id, state="done", weights=undisturbed.status(TEACHER.id)["weights"])
    setup.load_trained(TEACHER, 10, store)
    store.write_status(TEACHER.id, weights="0" * 64)
    with pytest.raises(RunError, match=f"does not hold the weights of run {TEACHER.id}"):
        setup.load_trained(TEACHER, 10, store)


def test_a_run_that_was_begun_on_other_images_is_not_gone_on_with(undisturbed, tmp_path, monkeypatch):
    store = interrupted(tmp_path, monkeypatch, epoch=2)
    begun = store.status(BASELINE.id)["data"]
    checkpoint_bytes = store.checkpoint(BASELINE.id).read_bytes()
    store.write_status(BASELINE.id, data={**begun, "sha256": "0" * 64})
    with pytest.raises(RunError, match=f"{BASELINE.id} was begun on other images of cifar10: delete .* or bring those"):
        execute(BASELINE, store, Path("none"))
    assert store.status(BASELINE.id)["data"]["sha256"] == "0" * 64
    assert store.checkpoint(BASELINE.id).read_bytes() == checkpoint_bytes
    store.write_status(BASELINE.id, data=begun)
    execute(BASELINE, store, Path("none"))
    assert history(store, BASELINE) == history(undisturbed, BASELINE)


def test_what_is_said_of_compiling_is_in_the_status(store, monkeypatch):
    """`test_loop` tests that steps which cannot be compiled run uncompiled."""

    def fit(*arguments, compile_method, on_compiled, **options):
        on_compiled(f"compiled: {compile_method}")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        execute(BASELINE, store, Path("none"), Resources(compile_method=True), device="cpu")
    assert store.status(BASELINE.id)["compiled"] == "compiled: True"
