"""Rules for committed notebooks: stripped, thin, one parameters cell, a first cell that says what to expect."""

import ast
import inspect
import os
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from cds_lib.study.checkout import CHECKOUT as ROOT
from cds_lib.study.plan.protocols import PROFILES
from cds_lib.study.report import notebooks
from cds_lib.study.report.notebooks import READING
from cds_lib.study.session import open_study
from cds_lib.study.tables import TABLES, official

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Parameters that `run-all` passes to every notebook, and all that a notebook may declare.
PASSED = {"profile", "results", "data_root", "seeds", "train"}
KNOWN = (set(inspect.signature(open_study).parameters) - {"table"}) | {"train"}
PACKAGES = {*"cds_lib matplotlib numpy pandas scipy seaborn torch timm re tempfile pathlib".split()}


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_every_table_has_a_notebook():
    assert {path.stem for path in NOTEBOOKS} >= {*(table.name for table in official()), "use_your_own_model"}


@each_notebook
def test_file_is_stripped_and_formatted(path):
    raw, notebook = path.read_bytes(), read(path)
    assert len(raw) < 40_000
    assert nbformat.writes(notebook).rstrip("\n") + "\n" == raw.decode("utf-8")  # else the next save changes the file
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel}
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"} and not cell.get("outputs") and cell.get("execution_count") is None


@each_notebook
def test_exactly_one_parameters_cell_first_and_literal(path):
    code = code_of(path)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1]
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        (target,) = statement.targets
        values[target.id] = ast.literal_eval(statement.value)
    assert values.keys() >= PASSED, f"run-all passes {PASSED - values.keys()}"
    assert values.keys() <= KNOWN, f"nothing reads {values.keys() - KNOWN}"
    # Opened by hand, a notebook shows committed results, trains nothing and writes nothing.
    assert (values["profile"], values["results"], values["train"]) == ("mini", "", False)


@each_notebook
def test_what_interprets_the_miniature_says_so_and_holds_no_measured_number(path):
    tagged = [cell for cell in read(path).cells if READING in cell.metadata.get("tags", [])]
    if path.stem not in ("00_start_here", "use_your_own_model", "exercises"):
        assert tagged
    for cell in tagged:
        assert cell.cell_type == "markdown" and "committed miniature" in cell.source
        assert not re.search(r"\d[.,]\d", cell.source), cell.source  # output cells show the numbers


@each_notebook
def test_first_cell_says_what_to_expect(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert all(word in first.source for word in ("**Question.**", "**Expected time.**", "**Writes.**"))
    table = TABLES.get(path.stem)
    first_runs = {spec.id for profile in PROFILES for spec in table.runs(profile, (0,))[:1]} if table else ()
    if len(first_runs) > 1:  # the cost depends on the profile
        assert all(f"`{profile}`" in first.source for profile in PROFILES)
    of_mini = re.search(r"Profile `mini`: (.*?)Profile `paper`", first.source)
    stated = re.findall(r"(\d+) runs", of_mini[1]) if of_mini else []
    assert stated in ([], [str(len(table.runs("mini", None)))]) if table else not stated


@each_notebook
def test_notebook_is_thin_and_knows_no_machine(path):
    for cell in code_of(path):
        lines = cell.source.splitlines()
        assert not any(re.match(r"\s*(!|%\s*(pip|conda|sh|bash))", line) for line in lines), cell.id
        for node in ast.walk(ast.parse("\n".join(line for line in lines if not line.startswith("%")))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 12, f"{cell.id}: {node.name} belongs in the library"
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {module.split(".")[0] for module in modules} <= PACKAGES, cell.id
    for cell in read(path).cells:
        assert not re.search(r"(?<![\w.:/<])(/(home|root|Users|tmp|mnt|work|data)/|~/|[A-Z]:\\)", cell.source), cell.id
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ .+$", text, re.M)
    assert len(set(headings)) == len(headings) and len(re.findall(r"^# ", text, re.M)) == 1


@each_notebook
def test_a_notebook_that_trains_in_its_own_process_uses_one_thread(path):
    """Notebooks of the study train in engine processes. In a small training two threads wait for each other."""
    text = "\n".join(cell.source for cell in code_of(path))
    assert "backward()" not in text or re.search(r"^torch.set_num_threads\(1\)", text, re.M)


def read_by_default():
    """Return the notebook with the most runs and plots, or all with CDS_TEST_ALL_NOTEBOOKS=1."""
    wanted = os.environ.get("CDS_TEST_ALL_NOTEBOOKS")
    skip = pytest.mark.skip(reason="CDS_TEST_ALL_NOTEBOOKS=1 reads it")
    return [pytest.param(p, id=p.stem, marks=() if wanted or p.stem == "table1_cifar100" else skip) for p in NOTEBOOKS]


@pytest.mark.parametrize("path", read_by_default())
def test_as_it_is_a_notebook_reads_the_miniature_in_seconds(path, tmp_path):
    """It takes under 15 s on a quiet machine. The limit is three times this, in CPU time: test machines are shared."""
    timed = nbformat.read(path, as_version=4)
    timed.cells.append(new_code_cell("import time; print(time.process_time())", id="timed"))
    copy, output = tmp_path / "repo" / "notebooks" / path.name, tmp_path / "notebooks" / path.name
    copy.parent.mkdir(parents=True)
    nbformat.write(timed, copy)
    result = next(notebooks.execute([(copy, output)], {}))
    assert result.error is None and float(nbformat.read(output, as_version=4).cells[-1].outputs[0].text) < 45


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in NOTEBOOKS} & TABLES.keys() - {table.name for table in official()})
)
def test_a_table_that_nothing_has_trained_is_read_to_the_end(name, tmp_path):
    """`run-all` trains only the tables of the paper, but executes the notebooks of all tables."""
    parameters = {"profile": "smoke", "results": str(tmp_path / "smoke")}
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert next(notebooks.execute([(path, tmp_path / path.name)], parameters)).error is None
