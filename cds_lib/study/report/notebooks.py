"""Execute notebooks with papermill, each in a process and with a kernel of its own.

The kernel named in a notebook's metadata is ignored: it may not be installed, or belong to another environment. Every
notebook has its own Jupyter folders, so that one that dies does not affect the others. A failure of a notebook is a
result, not an exception: the notebook is saved up to that point and the others go on.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nbformat

from cds_lib.errors import UsageError
from cds_lib.study import processes
from cds_lib.study.errors import NothingRun, system_error
from cds_lib.study.files import once, write_text
from cds_lib.study.processes import Worker, kill, work_off
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


@dataclass
class _Execution:
    """A notebook to execute. inputs: the hash of notebook, parameters and evidence; folder: its working folder; began
    and kernel: of the last attempt."""

    notebook: Path
    output: Path
    inputs: str = ""
    folder: tempfile.TemporaryDirectory | None = None
    attempts: int = 0
    began: float = 0.0
    kernel: Worker | None = None

    @property
    def executed(self) -> Path:
        return Path(self.folder.name) / "executed.ipynb"

    def result(self, error: str | None, cell: str = "") -> NotebookResult:
        """How it ended; removes its folder."""
        if self.folder:
            self.folder.cleanup()
        return NotebookResult(self.notebook.stem, error, cell, round(time.monotonic() - self.began, 1))


def execute(
    files: Iterable[tuple[Path, Path]], parameters: dict[str, Any], *, evidence: str = "", jobs: int = 1
) -> Iterator[NotebookResult]:
    """Run each (notebook, output) and save the notebook with its outputs as `output`, whether it succeeds or not;
    stopped by Ctrl-C, it leaves `output` as it was. It works in a hidden folder beside `output`.

    The kernel's working directory is the folder above the notebook's (the repository), where relative paths in
    parameters start. Nothing is written beside the notebook. The same inputs give the same bytes. Results come as
    notebooks end.

    Args:
        parameters: scalars for the cells tagged `parameters`.
        evidence: stands for all that the notebooks read. Where it, the notebook and the parameters are those that
            `output` was made of, nothing is run; "" always runs.
        jobs: notebooks at a time.
    """
    waiting: list[_Execution] = []
    try:
        for notebook, output in files:
            one = _Execution(Path(notebook).resolve(), Path(output).absolute(), began=time.monotonic())
            if (result := _without_running(one, parameters, evidence)) is not None:
                yield result
            else:
                waiting.append(one)
        if waiting:
            yield from _run(waiting, parameters, jobs)
    finally:
        for one in waiting:
            one.folder.cleanup()


def _without_running(one: _Execution, parameters: dict[str, Any], evidence: str) -> NotebookResult | None:
    """The result of a notebook that need not or cannot be run. For any other, make its folder and return None."""
    if error := fault(one.notebook, parameters):
        return one.result(error)
    try:
        if evidence:
            text = json.dumps([one.notebook.read_text(encoding="utf-8"), parameters, evidence])
            one.inputs = hashlib.sha256(text.encode()).hexdigest()[:12]
            if _is_made_of(one.output, one.inputs):
                return NotebookResult(one.notebook.stem, None)
        one.output.parent.mkdir(parents=True, exist_ok=True)
        one.folder = tempfile.TemporaryDirectory(
            prefix=f".{one.notebook.stem}-", dir=one.output.parent, ignore_cleanup_errors=True
        )
    except OSError as error:
        return one.result(system_error(error))
    return None


def _run(executions: list[_Execution], parameters: dict[str, Any], jobs: int) -> Iterator[NotebookResult]:
    context, waiting = processes.fork_server(PRELOAD), list(executions)

    def start(one: _Execution, number: int) -> Worker:
        folder = Path(one.folder.name)
        private = ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        variables = {name: str(folder / name.lower()) for name in private}
        how: dict[str, Any] = {"variables": variables, "log": folder / "output.txt"}
        ours, theirs = context.Pipe()
        one.attempts, one.began = one.attempts + 1, time.monotonic()
        one.kernel = Worker(context, _serve, theirs, **how)
        worker = Worker(context, _execute, ours, one.notebook, one.executed, parameters, **how)
        ours.close()
        theirs.close()
        return worker

    try:
        for one, kind, value in work_off(lambda: waiting.pop(0) if waiting else None, start, jobs):
            if kind == "begun":
                continue
            one.kernel.kill()
            how = value if kind == "done" else _failure(value, _last_cell_started(one.executed))
            if how["kernel_did_not_start"] and one.attempts < START_ATTEMPTS:
                waiting.insert(0, one)
            else:
                yield _saved(one, how, parameters)
    finally:
        kill(one.kernel for one in executions if one.kernel)


def _saved(one: _Execution, how: dict[str, Any], parameters: dict[str, Any]) -> NotebookResult:
    """Save the notebook as far as it was executed."""
    try:
        try:
            saved = _read(one.executed)
        except UsageError:  # papermill has not written it
            saved = _read(one.notebook)
        ended = one.result(how["error"], how["cell"])
        _clean(saved, one.notebook.name, parameters)
        saved.metadata[METADATA] = {
            "error": ended.error,
            "cell": ended.cell,
            "inputs": one.inputs,
            "figures": sorted(path.name for path in _figures(one.output).glob(f"{one.notebook.stem}*.svg")),
        }
        if parameters.get("profile", "mini") != "mini" or parameters.get("seeds"):
            _leave_out_readings(saved)
        write_text(one.output, nbformat.writes(saved) + "\n")
    except UsageError as error:
        return one.result(str(error))
    except OSError as error:
        return one.result(system_error(error))
    return ended


def _is_made_of(output: Path, inputs: str) -> bool:
    """Whether `output` was made from these inputs without an error, and its figures are still there."""
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
    """An executed notebook and the result that it carries; UsageError for one that `execute` did not write."""
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


def _failure(why: str, cell: str = "", kernel_did_not_start: bool = False) -> dict[str, Any]:
    error = f'cell "{cell}": {why}' if cell else why
    return {"error": error, "cell": cell, "kernel_did_not_start": kernel_did_not_start}


def _last_cell_started(executed: Path) -> str:
    """The id of the last cell that began, "" if none did."""
    if not executed.exists():
        return ""
    cells = nbformat.read(executed, as_version=4).cells
    started = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    return started[-1].id if started else ""


def _clean(notebook: nbformat.NotebookNode, name: str, parameters: dict[str, Any]) -> None:
    """Drop what differs from one execution to the next: papermill's markers, times, paths of this machine."""
    from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor  # slow

    notebook.cells = [cell for cell in notebook.cells if ERROR_MARKER not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(notebook.cells):
        # Printed lines arrive in more or fewer pieces, depending on the load of the machine.
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, number)
        cell.metadata = nbformat.from_dict({name: value for name, value in cell.metadata.items() if name == "tags"})
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill's is random
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["papermill"] = {"input_path": name, "output_path": name, "parameters": parameters}


def _leave_out_readings(notebook: nbformat.NotebookNode) -> None:
    """Replace the cells that interpret the committed miniature: these results may differ."""
    for cell in notebook.cells:
        if READING in cell.metadata.get("tags", []):
            cell.source = "*Here stands what the committed miniature says. These results are not those.*"


def _serve(say: Callable[[Any], None], pipe: Connection) -> None:
    from cds_lib.study.report import kernel  # not in the process that asks for notebooks: see there

    kernel.serve(say, pipe)


def _execute(
    say: Callable[[Any], None], pipe: Connection, notebook: Path, executed: Path, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Run papermill here, with the kernel at the other end of the pipe; error and cell as in NotebookResult."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from cds_lib.study.report import kernel

    processes.temporary.append(executed.parent)
    kernel.use(pipe)
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
    except papermill.PapermillExecutionError as error:
        if error.ename != NothingRun.__name__:
            # The two marker cells are in the file already, the first at its top and the second before the failed cell.
            cell = nbformat.read(executed, as_version=4).cells[error.cell_index + 2]
            first = (error.evalue.strip() or "no message").splitlines()[0]
            return _failure(f"{error.ename}: {first}", cell.id)
    except DeadKernelError:
        return _failure("the kernel died; the system may have run out of memory", _last_cell_started(executed))
    except RuntimeError as error:
        if _last_cell_started(executed):
            raise
        return _failure(f"the kernel did not start ({str(error).splitlines()[0]})", kernel_did_not_start=True)
    return {"error": None, "cell": "", "kernel_did_not_start": False}
