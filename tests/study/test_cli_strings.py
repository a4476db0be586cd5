"""Any text as --seeds, --jobs or --only, and any values as a notebook's parameters: done, or refused in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_lib.errors import UsageError
from cds_lib.study import cli
from cds_lib.study.checkout import CHECKOUT
from cds_lib.study.plan import protocols
from cds_lib.study.session import Session, open_study
from cds_lib.study.tables import TABLES

# What a shell can pass: no NUL, and bytes that are no UTF-8 as surrogates.
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
