"""The commands from a user's view: the message and exit code of bad input, and no other output."""

import errno
import os
import signal
import subprocess
import sys
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_lib.errors import UsageError
from cds_lib.study import cli
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.checkout import CHECKOUT as ROOT
from cds_lib.study.files import write_json
from cds_lib.study.plan import protocols
from cds_lib.study.session import Session, open_study
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from sweeps import wait_until


@pytest.fixture
def command(capsys):
    """Return a function that runs a command in this process and returns exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = cli.main([*map(str, arguments)])
        except SystemExit as left:  # argparse
            code = left.code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run-all", "--models", "resnet19"], "There is no model 'resnet19' here: choose from"),
        (["run-all", "--methods", "byol", "--models", "resnet101"], "No table has these methods with these models"),
        (["run-all", "--profile", "tiny"], "Unknown profile 'tiny': choose one of smoke, mini, paper."),
        (["run-all", "--processes", "0"], "--processes must be 1 or more"),
        (["run-all", "--processes", "2", "--compile"], "--compile is for runs of one process"),
        (["run-all", "--engine", "cloud"], "invalid choice: 'cloud'"),
        (["run-all", "--prof", "mini"], "unrecognized arguments"),
        (["bench", "growth"], "benchmarks/README.md"),  # a command of version 0.1.0
        (["nothing"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(command, arguments, sentence, tmp_path):
    extra = ["--results", tmp_path] if arguments[:1] == ["run-all"] else []
    code, _, err = command(*arguments, *extra)
    assert code == 2 and sentence in err
    assert err.strip().splitlines()[-1].count("error: ") == 1
    assert not any(tmp_path.iterdir())  # nothing was started


@pytest.mark.parametrize("there", [False, True])
def test_data_that_is_missing_or_truncated_stops_before_the_first_run(command, tmp_path, there):
    folder = tmp_path / "data" / "cifar-100-python"
    for name in ("train", "test", "meta") if there else ():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x80\x04half")
    wanted = ["run-all", "--profile", "mini", "--only", "table1_cifar100"]
    code, _, err = command(*wanted, "--data-root", tmp_path / "data", "--results", tmp_path / "r")
    assert code == 2 and len(err.strip().splitlines()) == 1
    assert (str(folder) if there else "python -m cds_lib data fetch cifar100") in err
    assert not list((tmp_path / "r" / "runs").iterdir())


def test_a_results_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = command("run-all", "--results", tmp_path / "file" / "results", "--only", "00_start_here")
    assert code == 2 and "Not a directory" in err and "choose another --results" in err


def test_list_and_dry_run_train_nothing(command, tmp_path):
    code, out, _ = command("run-all", "--list", "--results", tmp_path)
    assert code == 0
    for word in ("table1_cifar100", "resnext101_32x8d", "cds", "cifar100", "50 / 75 / 165", "rematch_tuning"):
        assert word in out
    arguments = ["--profile", "paper", "--only", "calibration", "--data-root", tmp_path / "none"]
    code, out, _ = command("run-all", "--dry-run", "--results", tmp_path, *arguments)
    assert code == 0 and f"CIFAR-100 is not in {tmp_path / 'none'}: 18 runs would not be trained" in out
    assert "18 runs: 0 done, 18 to train" in out and out.count("  to train: ") == 18
    (row,) = [line.split() for line in out.splitlines() if line.startswith("  calibration ")]
    assert row[1:3] == ["18", "18"]
    pflop, hours = (float(cell.replace(",", "")) for cell in row[3:5])
    assert pflop / 77 / 3.6 == pytest.approx(hours, rel=0.01)
    assert "at 77 TFLOP/s on an A100" in out and "Nothing of this study was measured" in out
    assert not any(tmp_path.iterdir())


def test_models_and_methods_narrow_what_is_trained_and_keep_parents_and_references(command, tmp_path):
    def planned(*arguments):
        code, out, _ = command("run-all", "--dry-run", "--results", tmp_path, *arguments)
        assert code == 0
        return [tuple(line.split()[4:6]) for line in out.splitlines() if line.startswith("  to train: ")]

    only = ["--only", "distillation_cifar100", "--methods"]
    assert planned(*only, "cds_kd") == [("resnet18", "baseline"), ("resnet50", "cds"), ("resnet18", "cds_kd")]
    many = planned("--models", "resnet18", "--methods", "dsn")
    assert {("resnet18", "dsn"), ("resnet18", "baseline")} == {*many} and len(many) > 4
    assert not any(tmp_path.iterdir())


def test_without_only_the_papers_tables_are_trained(command, tmp_path):
    def tables(*arguments):
        code, out, _ = command("run-all", "--dry-run", "--results", tmp_path, *arguments)
        assert code == 0
        return {line.split()[0] for line in out.splitlines() if line.startswith("  ")}

    assert "rematch_tuning" not in tables()
    assert "rematch_tuning" in tables("--only", "rematch_tuning,tuning")


def test_status_names_what_failed(command, store, tmp_path):
    spec = TABLES["00_start_here"].runs("smoke", None)[1]
    write_json(store.run_dir(spec.id) / "spec.json", spec.to_dict())
    store.write_status(spec.id, state="failed", error="The GPU is out of memory.")
    code, out, _ = command("status", "--only", "00_start_here", "--results", tmp_path)
    assert code == 0 and "2 runs: 0 done, 1 to train, 1 failed before" in out
    assert f"failed {spec.id} cifar10 resnet18 cds seed 0, epoch 0/10: The GPU is out of memory." in out


def start(results, *paths, **options):
    """Start a run of the first notebook's table in a new process group that Ctrl-C reaches."""
    return subprocess.Popen(
        [sys.executable, "-m", "cds_lib", "run-all", "--only", "00_start_here", "--results", str(results)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT]))},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A background job of a shell ignores Ctrl-C, and so would its child processes.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    line = f'"{sys.executable}" -m cds_lib run-all --list --results "{tmp_path}" | head -n 1'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", line], cwd=ROOT, env=env, capture_output=True, text=True).stderr == ""


def test_ctrl_c_stops_in_one_line_and_the_run_can_go_on(tmp_path):
    store, spec = Store(tmp_path), TABLES["00_start_here"].runs("smoke", None)[1]
    process = start(tmp_path, stderr=subprocess.STDOUT)
    wait_until(lambda: store.checkpoint(spec.id).exists() or process.poll() is not None, 100)
    os.killpg(process.pid, signal.SIGINT)  # like a terminal, to every process of the group
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in output
    assert output.splitlines()[-1].startswith("Stopped. Run the same command again to go on")
    assert store.status(spec.id)["state"] == "interrupted" and store.checkpoint(spec.id).exists()
    with store.lock(), store.lock_run(spec.id):
        pass  # no running process holds the locks


@pytest.mark.parametrize("module", ["numpy", "torch"])  # imported by the command, and by its fork server
def test_ctrl_c_while_something_is_imported_leaves_no_traceback(module, tmp_path):
    stand_in = tmp_path / "modules" / f"{module}.py"
    stand_in.parent.mkdir()
    stand_in.write_text("import os, signal, time\nos.killpg(0, signal.SIGINT)\ntime.sleep(1)\nos._exit(1)\n")
    process = start(tmp_path / "r", stand_in.parent, stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "")


@pytest.mark.parametrize(
    ("number", "advice"),
    [("ENOSPC", "free space"), ("EROFS", "make it writable"), ("ECONNREFUSED", "--jobs"), ("EMFILE", "ulimit -n")],
)
def test_what_to_do_follows_from_what_the_system_refused(number, advice, monkeypatch, capsys):
    refuse = Mock(side_effect=OSError(getattr(errno, number), "no", "a file"))
    monkeypatch.setattr(cli.study, "status", refuse)
    assert cli.main(["status"]) == 1
    said = capsys.readouterr().err
    assert advice in said and ("free space" in said) == (number == "ENOSPC") and len(said.splitlines()) == 1


# -- any text as an option, any values as parameters -------------------------------------------------------------------


# A shell can pass any text without NUL; bytes that are not UTF-8 arrive as surrogates.
TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=0xDCFF), max_size=12)
NUMBERS = st.integers(-3, 10**12).map(str) | st.integers(0, 9).map(lambda n: str(n) * 5000) | st.floats().map(str)


def good_seeds(text):
    parts = [part.strip() for part in text.split(",")]
    return not text or all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts)


def test_seeds():
    assert protocols.parse_seeds("") is None and protocols.parse_seeds("2, 0,2") == (2, 0)


def good_jobs(text):
    try:
        return int(text) >= 0
    except ValueError:
        return False


def good_only(text):
    files = {path.stem for path in (CHECKOUT / "notebooks").glob("*.ipynb")}
    names = {name.strip() for name in text.split(",") if name.strip()}
    return not text or bool(names and names <= files | TABLES.keys())


LISTS = st.lists(NUMBERS | TEXT | st.sampled_from(sorted(TABLES)), max_size=3).map(",".join)


@pytest.mark.parametrize(("option", "good"), [("seeds", good_seeds), ("jobs", good_jobs), ("only", good_only)])
@settings(max_examples=25)
@given(text=LISTS | NUMBERS)
def test_an_option_is_taken_or_refused_in_one_line(capfd, option, good, text):
    command = ["run-all", "--list"] if option == "jobs" else ["status"]
    only = [] if option == "only" else ["--only", "00_start_here"]
    try:
        code = cli.main([*command, *only, "--results", "none", f"--{option}={text}"])
    except SystemExit as left:  # argparse
        code = left.code
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err and code == (0 if good(text) else 2)
    assert "error: " in err.splitlines()[-1] if code else err == ""


def test_a_results_folder_that_the_terminal_cannot_print(capfd):
    assert cli.main(["status", "--only", "00_start_here", "--results", "no\udcffne"]) == 0
    assert r"no\udcffne, a folder that is not there" in capfd.readouterr().out


ARGUMENTS = ("profile", "results", "data_root", "seeds", "jobs", "processes")
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.lists(st.integers(), max_size=2)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, min_size=1))
def test_parameters_of_a_notebook(parameters):
    try:
        study = open_study("00_start_here", **parameters)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert isinstance(study, Session) and study.profile in ("smoke", "mini", "paper")
    assert all(type(seed) is int and seed >= 0 for seed in study.seeds or ())
    assert study.engine.jobs >= 0 and study.engine.processes >= 1


@pytest.mark.parametrize("table", [None, 7, ["x"], "", "table9"])
def test_a_table_that_is_none(table):
    with pytest.raises(UsageError):
        open_study(table)
