"""How run_all.sh and run_tests.sh choose the environment, with stand-ins for python, uv and pip, without network.

Each test has a repository in a folder whose name has spaces, and a PATH of stand-ins and allowed tools.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shell_house import FAILING, ROOT, SCRIPTS, UV, House, executable
from sweeps import wait_until

# Contains two packages that PyTorch needs only for CUDA.
LOCK_WITH_CUDA = """# a comment
numpy==2.0 \\
    --hash=sha256:01
nvidia-nccl-cu13==2.0 ; sys_platform == 'linux' \\
    --hash=sha256:02 \\
    --hash=sha256:03
    # via torch
torch==1.0 \\
    --hash=sha256:04
    # via cds-study
torchvision==0.1 ; python_full_version < '4' \\
    --hash=sha256:05
triton==3.0 ; sys_platform == 'linux' \\
    --hash=sha256:06
xarray==1.0 \\
    --hash=sha256:07
"""


@pytest.fixture
def house(tmp_path, request):
    return House(tmp_path, flock=getattr(request, "param", True))


with_and_without_flock = pytest.mark.parametrize("house", [True, False], ids=["flock", "no-flock"], indirect=True)


def used(done: subprocess.CompletedProcess) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[0].removeprefix("PYTHON="))


# -- an environment that is active -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment_is_used_as_it_is(house, variable):
    active = house.environment("an env")
    done = house.run(**{variable: active})
    assert used(done) == active / "bin/python" and done.stderr == f"environment: {active} (active)\n"
    assert house.installs() == 0 and not house.venv.exists()


def test_virtual_environment_goes_before_the_conda_one_it_was_made_in(house):
    inner, outer = house.environment("inner"), house.environment("outer")
    assert used(house.run(VIRTUAL_ENV=inner, CONDA_PREFIX=outer)) == inner / "bin/python"


def test_active_environment_that_lacks_something_is_named_and_left_alone(house):
    active = house.environment("base", unmet="torch>=2.6")
    done = house.run(CONDA_PREFIX=active)
    assert used(done) == house.venv / "bin/python"
    assert done.stderr.splitlines()[0] == f"The active environment {active} is not used: it lacks torch>=2.6"
    assert sorted(p.name for p in active.iterdir()) == ["bin", "unmet"]


def test_active_environment_without_a_python(house):
    (house.folder / "gone").mkdir()
    assert used(house.run(VIRTUAL_ENV=house.folder / "gone")) == house.venv / "bin/python"


# -- our own .venv -----------------------------------------------------------------------------------------------------


@with_and_without_flock
def test_first_run_makes_the_environment_from_the_hashed_lock(house):
    done = house.run(PIP_INDEX_URL="an index", PIP_DRY_RUN="1", PYTHONPATH="/theirs")
    assert used(done) == house.venv / "bin/python"
    assert house.calls()[1:4] == [
        f"python3.11 -m venv {house.venv}",
        f"python -m pip --python= install --no-input --no-user --target= --root=/ --prefix={house.venv} --no-compile "
        f"--require-hashes -r {house.venv}/installing.lock",
        "pip sees an index",
    ]
    assert done.stderr.splitlines() == [
        "making the environment in .venv with pip: about 6 GB on Linux, some minutes (log: .venv/install.log)",
        f"environment: {house.venv}",
    ]
    assert "noise" not in done.stdout and "noise" in (house.venv / "install.log").read_text()


def test_second_run_installs_nothing_and_kernels_find_the_package_without_pythonpath(house):
    house.run()
    assert (house.venv / "site/cds_study.pth").read_text() == f"{house.repo}\n"
    house.calls()
    assert house.run().stderr == f"environment: {house.venv}\n" and house.installs() == 0


def test_uv_is_used_where_it_is(house):
    executable(house.path / "uv", UV)
    assert used(house.run()) == house.venv / "bin/python"
    assert [call for call in house.calls() if call.startswith("uv")] == [
        f"uv venv --allow-existing --python {house.python} {house.venv}",
        f"uv --directory {house.repo} pip install --python {house.venv}/bin/python --prefix {house.venv} "
        f"--require-hashes -r {house.venv}/installing.lock",
    ]


def test_uv_fetches_a_python_where_there_is_none(house):
    executable(house.path / "uv", UV)
    executable(house.path / "hidden", house.python.read_text())
    house.python.unlink()
    assert used(house.run(TEST_PYTHON=house.path / "hidden")) == house.venv / "bin/python"
    assert f"uv venv --allow-existing --python 3.11 {house.venv}" in house.calls()


@pytest.mark.parametrize("uv", [False, True])
def test_without_cuda_pytorch_comes_from_the_index_that_is_named_and_the_rest_by_hash(house, uv):
    if uv:
        executable(house.path / "uv", UV)
    (house.repo / "requirements.lock").write_text(LOCK_WITH_CUDA)
    used(house.run(CDS_CPU_INDEX="an index"))
    first, second = (call for call in house.calls() if " --prefix" in call)
    assert first.endswith(f"--require-hashes --no-deps -r {house.venv}/installing.lock")
    index = "--default-index" if uv else "--index-url"
    assert second.endswith(f"--no-deps {index} an index torch==1.0+cpu torchvision==0.1+cpu")
    lines = (house.venv / "installed.lock").read_text().splitlines()
    assert [line.split("==")[0] for line in lines if line[0] not in "# "] == ["numpy", "xarray"]
    assert [line.strip(" \\") for line in lines if "--hash" in line] == ["--hash=sha256:01", "--hash=sha256:07"]


def test_an_environment_without_cuda_stays_so_and_is_never_made_unasked(house):
    (house.repo / "requirements.lock").write_text(LOCK_WITH_CUDA)
    house.run(CDS_CPU_INDEX="an index")
    house.calls()
    assert house.run().stderr == f"environment: {house.venv}\n" and house.installs() == 0
    (house.repo / "requirements.lock").write_text(LOCK_WITH_CUDA.replace("torch==1.0", "torch==1.1"))
    house.run(TEST_PIP="killed")
    house.run()
    assert sum("torch==1.1+cpu torchvision==0.1+cpu" in call for call in house.calls()) == 1
    shutil.rmtree(house.venv)
    house.run()
    assert house.installs() == 1 and not any("+cpu" in call for call in house.calls())


def test_binder_gets_an_environment_without_cuda_as_the_kernel_of_its_notebooks(house):
    done = house.start(script=".binder/postBuild", cwd=house.repo, NB_PYTHON_PREFIX="a prefix")
    out, err = done.communicate(timeout=30)
    assert done.returncode == 0 and "ARG=--list" in out, err
    calls = house.calls()
    assert any("--index-url https://download.pytorch.org/whl/cpu" in call for call in calls)
    assert calls[-1] == "python -m ipykernel install --prefix a prefix"


def test_an_environment_elsewhere_behind_a_link(house):
    (house.folder / "scratch").mkdir()
    house.venv.symlink_to(house.folder / "scratch")
    assert used(house.run()) == house.venv / "bin/python" and (house.folder / "scratch/bin/python").exists()


def with_a_new_lock(house):
    (house.repo / "requirements.lock").write_text("torch==2 --hash=sha256:00\n")


def with_a_new_lock_and_active(house):
    with_a_new_lock(house)
    house.env["VIRTUAL_ENV"] = str(house.venv)


def lacking_a_package(house):
    (house.venv / "unmet").write_text("timm>=1.0.20")


@pytest.mark.parametrize("spoil", [with_a_new_lock, with_a_new_lock_and_active, lacking_a_package])
def test_what_is_out_of_line_is_installed_into_the_environment_there_is(house, spoil):
    house.run()
    (house.venv / "own.txt").write_text("the user's")
    spoil(house)
    house.calls()
    assert "bringing .venv in line with requirements.lock" in house.run().stderr
    calls = house.calls()
    assert sum(" install " in call for call in calls) == 1 and not any(" venv " in call for call in calls)
    (package, *_) = (house.repo / "requirements.lock").read_text().split()
    assert package in (house.venv / "installed.lock").read_text() and (house.venv / "own.txt").exists()
    assert house.run() and house.installs() == 0


@pytest.mark.parametrize(
    ("pip", "says"),
    [("elsewhere", "pip ended well, but in .venv it lacks torch>=2.6"), ("broken", "libtorch.so: no such file")],
)
def test_install_that_ends_well_and_does_not_work_is_no_environment(house, pip, says):
    """Settings of pip or uv can install packages elsewhere, or not at all."""
    done = house.run(TEST_PIP=pip)
    assert done.returncode == 1 and done.stdout == "" and says in done.stderr
    assert not (house.venv / "installed.lock").exists()
    assert used(house.run()) == house.venv / "bin/python" and house.installs() == 2


@with_and_without_flock
def test_killed_install_is_made_again_from_nothing(house):
    assert house.run(TEST_PIP="killed").returncode == -9
    (house.venv / "half").write_text("a half-written package")
    house.calls()
    done = house.run()
    assert used(done) == house.venv / "bin/python" and "the last install was interrupted" in done.stderr
    assert house.installs() == 1 and not (house.venv / "half").exists()


@with_and_without_flock
def test_failed_install_shows_its_end_and_its_log_and_can_be_retried(house):
    failed = house.run(TEST_PIP="fail")
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.splitlines()[-2] == "ERROR: no space left"
    assert str(house.venv / "install.log") in failed.stderr.splitlines()[-1]
    assert used(house.run()) == house.venv / "bin/python"


def moved(house):
    house.repo = house.repo.rename(house.folder / "elsewhere")


def without_its_python(house):
    (house.venv / "bin/python").unlink()


@with_and_without_flock
@pytest.mark.parametrize("spoil", [moved, without_its_python])
def test_an_environment_that_no_longer_works_is_made_again(house, spoil):
    house.run()
    spoil(house)
    house.calls()
    assert used(house.run()) == house.venv / "bin/python" and house.installs() == 1


def test_somebody_elses_venv_is_used_but_never_changed(house):
    house.environment("my clone/.venv")
    (house.venv / "pyvenv.cfg").write_text("x")
    assert used(house.run()) == house.venv / "bin/python"
    (house.venv / "unmet").write_text("timm>=1.0.20")
    done, sentence = house.run(), ".venv was not made by this script and cannot be used: it lacks timm>=1.0.20. Remove"
    assert done.returncode == 2 and done.stderr.startswith(sentence) and house.installs() == 0


def test_python_that_only_pretends_to_be_there_is_passed_over(house):
    house.python.rename(house.path / "python3.12")
    executable(house.path / "python3.11", FAILING)
    house.run()
    assert f"python3.12 -m venv {house.venv}" in house.calls()


def test_no_python_is_one_line_and_exit_2(house):
    executable(house.path / "python3", FAILING)
    house.python.unlink()
    done = house.run()
    said = "No Python 3.11 or newer was found: install one (or uv), or activate an environment that has the packages."
    assert (done.returncode, done.stderr.splitlines()) == (2, [said])


def test_venv_that_cannot_be_written_is_one_line_and_exit_2(house):
    house.venv.write_text("")
    done = house.run()
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"Cannot write {house.venv}:")


@with_and_without_flock
def test_two_at_once_install_once(house):
    first = house.start(TEST_PIP="slow")
    wait_until((house.venv / "installing.lock").exists, 20)
    second = house.run()
    first.communicate(timeout=30)
    assert first.returncode == second.returncode == 0
    assert "Another process is making .venv: waiting for it." in second.stderr and house.installs() == 1


# -- what the scripts pass on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh"])
def test_script_finds_its_repository_through_links(house, script):
    (house.folder / "links" / "more").mkdir(parents=True)
    (house.folder / "links" / "more" / "first").symlink_to(house.repo / script)
    (house.folder / "links" / "second").symlink_to("more/first")
    house.env["PATH"] += f":{house.folder}/links"
    active, bash = house.environment("env"), shutil.which("bash")
    for done in (
        house.run(script=house.folder / "links" / "second", VIRTUAL_ENV=active),
        house.run("links/second", script=bash, VIRTUAL_ENV=active),
        house.run("-c", "second", script=bash, VIRTUAL_ENV=active),  # found on PATH
    ):
        assert used(done) == active / "bin/python" and f"PYTHONPATH={house.repo}\n" in done.stdout


@pytest.mark.parametrize("shell", ["sh", "dash", "zsh"])
@pytest.mark.parametrize("script", ["run_all.sh", "run_tests.sh"])
def test_another_shell_hands_over_to_bash(house, script, shell):
    found = shutil.which(shell)
    if not found:
        pytest.skip(f"this machine has no {shell}")
    active = house.environment("env")
    done = house.run(str(house.repo / script), "a b", script=found, VIRTUAL_ENV=active)
    assert used(done) == active / "bin/python" and "ARG=a b\n" in done.stdout


@pytest.mark.parametrize(
    ("script", "extra", "before", "repository", "threads"),
    [
        ("run_all.sh", "study", "-m cds_lib run-all", False, "unset"),
        ("run_tests.sh", "test", "-m pytest -n 3 --dist loadgroup", True, "1"),
    ],
)
def test_a_script_is_a_thin_front(house, script, extra, before, repository, threads):
    """The script appends the arguments to its own and passes on the exit code; run_tests.sh runs in the repository. The
    caller's folder and the home of another Python have no effect."""
    cwd = house.folder / "some where"
    cwd.mkdir()
    variables = {"VIRTUAL_ENV": house.environment("env"), "PYTHONPATH": "/theirs", "PYTHONHOME": "/usr"}
    done = house.run("-k", "two words", script=script, cwd=cwd, TEST_EXIT=130, **variables)
    assert done.stdout.splitlines()[1:] == [
        f"PYTHONPATH={house.repo}:/theirs",
        f"CWD={house.repo if repository else cwd}",
        f"HOME={house.home}",
        f"OMP={threads}",
        *(f"ARG={argument}" for argument in [*before.split(), "-k", "two words"]),
    ]
    calls = house.calls()
    assert calls[0] == f"python {house.repo}/scripts/unmet_requirements.py {extra}"  # checks the requirements
    assert "safe path 1, home unset" in calls and done.returncode == 130


def test_empty_home_is_taken_as_none(house):
    assert "HOME=unset" in house.run(HOME="", VIRTUAL_ENV=house.environment("env")).stdout.splitlines()


# -- the scripts themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_stay_within_the_bash_of_macos(name):
    text = (ROOT / name).read_text()
    for newer in ("mapfile", "readarray", "declare -A", ",,}", "^^}", "&>>", "|&", "realpath", "readlink -f"):
        assert newer not in text


# -- what an environment lacks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dependencies", "extras", "lacks"),
    [
        (["numpy>=1.0", "pytest>=8"], [], ""),
        (["numpy>=999.1", "no-such-package>=1", "pytest>=8"], [], "it lacks numpy>=999.1, no-such-package>=1"),
        (["numpy>=1.0"], ["part"], "it lacks nothing-like-it>=1"),
        (["numpy>=1.0"], ["whole"], "it lacks nor-this>=2, nothing-like-it>=1"),  # `whole` includes `part`
    ],
)
def test_what_a_repository_with_these_dependencies_lacks(tmp_path, dependencies, extras, lacks):
    script = tmp_path / "scripts/unmet_requirements.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "scripts/unmet_requirements.py", script)
    text = f"[project]\nname = 'a-name'\ndependencies = {dependencies!r}\n[project.optional-dependencies]\n"
    text += "part = ['nothing-like-it>=1']\nwhole = ['a-name[part]', 'nor-this>=2']\n"
    (tmp_path / "pyproject.toml").write_text(text)
    done = subprocess.run([sys.executable, script, *extras], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (1 if lacks else 0, lacks)
