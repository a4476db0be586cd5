"""Execute notebooks with papermill, each in a process of its own, which forks its kernel.

The kernel named in a notebook's metadata is ignored: it may not be installed, or belong to another environment. Every
notebook has its own Jupyter folders, so that its death does not affect the others. A failure of a notebook is a result,
not an exception: the notebook is saved up to that point and the others go on.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from cds_lib.errors import UsageError
from cds_lib.study import processes
from cds_lib.study.errors import NothingRun, system_error
from cds_lib.study.files import once, write_text
from cds_lib.study.processes import Worker, work_off
from cds_lib.study.report.notebook_files import PRELOAD, fault

# A start can fail for reasons outside the notebook, such as a port that another process takes in the same instant.
START_ATTEMPTS = 3
# Papermill marks a failed notebook with cells of its own; the report has a banner instead.
ERROR_MARKER = "papermill-error-cell-tag"
# The tag of Markdown cells that interpret the committed miniature.
READING = "mini"
# The key in an executed notebook's metadata that holds its result, for later reports.
METADATA = "cds_lib"


@dataclass(frozen=True)
class NotebookResult:
    """How an execution ended. error: one line, None if the notebook ran to its end; cell: the id of the cell that
    failed, "" if none did; seconds: how long it took, 0 if it was not executed again."""

    name: str
    error: str | None
    cell: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        return self.error is None


class _Task(NamedTuple):
    """A notebook to execute. inputs: the hash of notebook, parameters and evidence."""

    notebook: Path
    output: Path
    inputs: str


def execute(
    files: Iterable[tuple[Path, Path]], parameters: dict[str, Any], *, evidence: str = "", jobs: int = 1
) -> Iterator[NotebookResult]:
    """Run each notebook of the (notebook, output) pairs and save it with its outputs as `output`, even if it fails.
    After Ctrl-C `output` is unchanged. The work happens in a hidden folder beside the outputs, which must all be in one
    folder.

    The kernel's working directory is the folder above the notebook's (the repository), where relative paths in
    parameters start. Nothing is written beside the notebook. The same inputs give the same bytes. Results are yielded
    as notebooks end.

    Args:
        parameters: scalars for the cells tagged `parameters`.
        evidence: stands for everything that the notebooks read. A notebook is not run if `output` was made from the
            same evidence, notebook and parameters; with "" it always runs.
        jobs: number of notebooks that run at a time.
    """
    tasks = []
    for notebook, output in files:
        if error := fault(notebook, parameters):
            yield NotebookResult(notebook.stem, error)
            continue
        text = json.dumps([notebook.read_text(encoding="utf-8"), parameters, evidence])
        inputs = hashlib.sha256(text.encode()).hexdigest()[:12] if evidence else ""
        if evidence and _is_made_of(output, inputs):
            yield NotebookResult(notebook.stem, None)
        else:
            tasks.append(_Task(notebook.resolve(), output.absolute(), inputs))
    if tasks:
        yield from _run(tasks, parameters, jobs)


def _run(tasks: list[_Task], parameters: dict[str, Any], jobs: int) -> Iterator[NotebookResult]:
    context, waiting = processes.fork_server(PRELOAD), iter(tasks)
    beside = tasks[0].output.parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".executing-", dir=beside, ignore_cleanup_errors=True) as hidden:

        def executed(task: _Task) -> Path:
            return Path(hidden, task.notebook.stem, "executed.ipynb")

        def start(task: _Task, number: int) -> Worker:
            folder = executed(task).parent
            private = ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
            variables = {name: str(folder / name.lower()) for name in private}
            arguments = (task.notebook, executed(task), parameters)
            return Worker(context, _execute, *arguments, variables=variables, log=folder / "output.txt")

        for task, kind, value in work_off(lambda: next(waiting, None), start, jobs):
            if kind != "begun":
                error, seconds = value if kind == "done" else (value, 0.0)
                yield _saved(task, executed(task), error, seconds, parameters)


def _saved(
    task: _Task, executed: Path, error: str | None, seconds: float, parameters: dict[str, Any]
) -> NotebookResult:
    """Save the notebook as far as it was executed."""
    name = task.notebook.stem
    try:
        try:
            saved = _read(executed)
        except UsageError:  # papermill has not written it
            saved = _read(task.notebook)
        cell = _last_cell_started(saved) if error else ""
        error = f'cell "{cell}": {error}' if cell else error
        saved = _clean(saved, task.notebook.name, parameters)
        figures = sorted(path.name for path in _figures(task.output).glob(f"{name}*.svg"))
        saved.metadata[METADATA] = {"error": error, "cell": cell, "inputs": task.inputs, "figures": figures}
        write_text(task.output, nbformat.writes(saved) + "\n")
        return NotebookResult(name, error, cell, seconds)
    except UsageError as fault:
        return NotebookResult(name, str(fault))
    except OSError as fault:
        return NotebookResult(name, system_error(fault))


def _is_made_of(output: Path, inputs: str) -> bool:
    """Return whether `output` was made from these inputs without an error and its figures still exist."""
    try:
        made, ended = stored(output)
    except UsageError:
        return False
    own = made.metadata[METADATA]
    figures = all((_figures(output) / name).exists() for name in own.get("figures", ()))
    return ended.ok and own.get("inputs") == inputs and figures


def _figures(output: Path) -> Path:
    return output.parents[1] / "figures"


def stored(notebook: Path) -> tuple[nbformat.NotebookNode, NotebookResult]:
    """Return an executed notebook and the result it carries; UsageError for one that `execute` did not write."""
    content = (_unchanged if notebook.is_file() else _read)(notebook)
    try:
        found = content.metadata[METADATA]
        return content, NotebookResult(notebook.stem, found["error"], found.get("cell", ""))
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{notebook} is not an executed notebook: write it with run-all, or delete it.") from error


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # a broken file can raise nearly anything
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UsageError(f"The notebook {notebook} cannot be read ({first}): get it again, or delete it.") from error


_unchanged = once(_read)


def _last_cell_started(executed: nbformat.NotebookNode) -> str:
    """Return the id of the last cell that papermill began, or "" if it began none."""
    return next((c.id for c in reversed(executed.cells) if c.metadata.get("papermill", {}).get("start_time")), "")


def _clean(notebook: nbformat.NotebookNode, name: str, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Remove what differs between executions: papermill's markers, times, paths of this machine. Under another profile
    or other seeds than those of the committed results, also replace the cells that interpret these results."""
    from nbconvert import preprocessors  # slow

    notebook, _ = preprocessors.TagRemovePreprocessor(remove_cell_tags={ERROR_MARKER}).preprocess(notebook, {})
    # Printed lines arrive in more or fewer pieces, depending on the load of the machine.
    notebook, _ = preprocessors.coalescestreams.CoalesceStreamsPreprocessor().preprocess(notebook, {})
    committed = parameters.get("profile", "mini") == "mini" and not parameters.get("seeds")
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.id = "injected-parameters"  # papermill's is random
        if READING in tags and not committed:
            cell.source = "*A text about the committed miniature is left out here: these results are different ones.*"
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["papermill"] = {"input_path": name, "output_path": name, "parameters": parameters}
    return notebook


def _execute(
    say: Callable[[Any], None], notebook: Path, executed: Path, parameters: dict[str, Any]
) -> tuple[str | None, float]:
    """Run papermill in this process, with a kernel forked from it. Return the error, if any, and the seconds taken."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from cds_lib.study.report import kernel  # never in the process that asks for notebooks: see kernel.py

    processes.temporary.append(executed.parents[1])
    kernel.use()
    began = time.monotonic()
    for _ in range(START_ATTEMPTS):
        error = None
        try:
            papermill.execute_notebook(
                str(notebook),
                str(executed),
                parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=str(notebook.parents[1]),
                start_timeout=120,
            )
        except papermill.PapermillExecutionError as raised:
            if raised.ename != NothingRun.__name__:
                error = f"{raised.ename}: {(raised.evalue.strip() or 'no message').splitlines()[0]}"
        except DeadKernelError:
            error = "the kernel died; the system may have run out of memory"
        except RuntimeError as raised:
            if executed.exists() and _last_cell_started(_read(executed)):
                raise
            error = f"the kernel did not start ({str(raised).splitlines()[0]})"
            continue
        break
    return error, round(time.monotonic() - began, 1)
