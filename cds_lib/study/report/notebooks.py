"""Execute a notebook through papermill, in its own process and with this interpreter's kernel.

The kernel named in the notebook's metadata is ignored: it may not be installed, or be another environment's. Every
notebook gets a process and private Jupyter folders, so that one that dies takes nothing with it. What goes wrong with
a notebook is a result, not an exception: the notebook is saved up to that point and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from cds_lib.errors import UsageError
from cds_lib.files import refuse_no_file
from cds_lib.study.errors import NothingRun, system_error
from cds_lib.study.files import once, write_text
from cds_lib.study.processes import environment
from cds_lib.study.report.notebook_files import fault

# Some starts fail for reasons that have nothing to do with the notebook, such as a port taken in the same instant.
START_ATTEMPTS = 3
START_TIMEOUT = 120
# Not ipykernel_launcher, which takes the repository, its working directory, off the path that modules are searched on.
# Its history would be a data base in the results folder, which may be on a network that cannot lock one.
KERNEL = [sys.executable, "-m", "ipykernel", "-f", "{connection_file}", "--HistoryManager.enabled=False"]
_PROCESS = f"""import sys
from cds_lib.study import processes
processes.begin()  # before nbformat is imported
from {__name__} import main
main(sys.argv[1])"""
# Papermill marks a failed notebook with cells of its own; the report has a banner instead.
ERROR_MARKER = "papermill-error-cell-tag"
# The tag of cells, of Markdown, that interpret the committed miniature.
READING = "mini"
# Where the executed notebook carries its result, for reports that are written later.
METADATA = "cds_lib"


@dataclass(frozen=True)
class NotebookResult:
    """How an execution ended. `error` is one line, None if the notebook ran to its end; `cell` the id of the one that
    failed, "" if it is none's fault; `seconds` what it took now, 0 where it was not executed again."""

    name: str
    error: str | None
    cell: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        return self.error is None


def execute(
    notebook: Path, output: Path, parameters: dict[str, Any], *, evidence: str = "", timeout: float | None = None
) -> NotebookResult:
    """Run `notebook` and save it with its outputs as `output`, whether it succeeds or not; stopped by Ctrl-C, it leaves
    `output` as it was. It works in a hidden folder beside `output`.

    The kernel's working directory is the folder above the notebook's (the repository), where relative paths in
    parameters start. Nothing is written beside the notebook. The same inputs give the same bytes.

    Args:
        parameters: scalars for the cell tagged `parameters`.
        evidence: stands for all that the notebook reads. Where it, the notebook and the parameters are those that
            `output` was made of, nothing is run; "" always runs.
        timeout: seconds for the whole notebook; None waits.
    """
    notebook, output = Path(notebook).resolve(), Path(output).absolute()
    began = time.monotonic()

    def result(error: str | None, cell: str = "") -> NotebookResult:
        return NotebookResult(notebook.stem, error, cell, round(time.monotonic() - began, 1))

    if error := fault(notebook, parameters):
        return result(error)
    try:
        inputs = _inputs(notebook, parameters, evidence) if evidence else ""
        if inputs and _is_made_of(output, inputs):
            return NotebookResult(notebook.stem, None)
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{notebook.stem}-", dir=output.parent, ignore_cleanup_errors=True
        ) as folder:
            executed = Path(folder) / "executed.ipynb"
            for _ in range(START_ATTEMPTS):
                found = _in_own_process(Path(folder), notebook, executed, parameters, timeout)
                if not found["kernel_did_not_start"]:
                    break
            ended = result(found["error"], found["cell"])
            try:
                saved = _read(executed)
            except UsageError:  # papermill did not come to write it, or could not
                saved = _read(notebook)
        _clean(saved, notebook.name, parameters)
        saved.metadata[METADATA] = {
            "error": ended.error,
            "cell": ended.cell,
            "inputs": inputs,
            "figures": sorted(path.name for path in _figures(output).glob(f"{notebook.stem}*.svg")),
        }
        if parameters.get("profile", "mini") != "mini" or parameters.get("seeds"):
            _leave_out_readings(saved)
        write_text(output, nbformat.writes(saved) + "\n")
    except UsageError as error:
        return result(str(error))
    except OSError as error:
        return result(system_error(error))
    return ended


def _inputs(notebook: Path, parameters: dict[str, Any], evidence: str) -> str:
    text = json.dumps([notebook.read_text(encoding="utf-8"), parameters, evidence])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_made_of(output: Path, inputs: str) -> bool:
    """Whether `output` was made, without an error, of these inputs, and the figures that it wrote are still there."""
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
        refuse_no_file(notebook)
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # a broken file can raise nearly anything
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UsageError(f"The notebook {notebook} cannot be read ({first}): get it again, or delete it.") from error


_unchanged = once(_read)


def _in_own_process(
    job: Path, notebook: Path, executed: Path, parameters: dict[str, Any], timeout: float | None
) -> dict[str, Any]:
    """Run `main` below in a fresh interpreter and return the result it wrote."""
    kernels = job / "share" / "kernels" / "python3"
    kernels.mkdir(parents=True, exist_ok=True)
    (kernels / "kernel.json").write_text(json.dumps({"argv": KERNEL, "display_name": "Python 3", "language": "python"}))
    arguments = {
        "notebook": str(notebook),
        "executed": str(executed),
        "parameters": parameters,
        "cwd": str(notebook.parents[1]),
    }
    (job / "job.json").write_text(json.dumps(arguments))
    (job / "result.json").unlink(missing_ok=True)
    variables = environment() | {
        "JUPYTER_PATH": str(job / "share"),
        "JUPYTER_DATA_DIR": str(job / "data"),
        "JUPYTER_CONFIG_DIR": str(job / "config"),
        "JUPYTER_RUNTIME_DIR": str(job / "runtime"),
        "IPYTHONDIR": str(job / "ipython"),
    }
    # Its output goes to a file: a pipe would stay open, and be waited for, as long as any grandchild lives.
    with (
        open(job / "output.txt", "w") as log,
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(job)],
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE,  # it ends when this is closed, also because this process has ended
        ) as process,
    ):
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return _failure(f"not finished after {timeout:g} s", _last_cell_started(executed))
    if process.returncode == -signal.SIGINT:  # Ctrl-C, which reaches the whole group: nothing is a result
        raise KeyboardInterrupt
    try:
        return json.loads((job / "result.json").read_text())
    except (OSError, ValueError):
        last = ((job / "output.txt").read_text().strip().splitlines() or ["no message"])[-1]
        return _failure(f"the process of the notebook ended with code {process.returncode}: {last}")


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
    """Drop papermill's markers, times and paths of this machine: what the same inputs would not give again."""
    from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor  # slow

    notebook.cells = [cell for cell in notebook.cells if ERROR_MARKER not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(notebook.cells):
        # How busy the machine is decides in how many pieces printed lines arrive.
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, number)
        cell.metadata = nbformat.from_dict({name: value for name, value in cell.metadata.items() if name == "tags"})
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill's is random
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["papermill"] = {"input_path": name, "output_path": name, "parameters": parameters}


def _leave_out_readings(notebook: nbformat.NotebookNode) -> None:
    """Put a line where a person has interpreted the committed miniature: other results may say something else."""
    for cell in notebook.cells:
        if READING in cell.metadata.get("tags", []):
            cell.source = "*Here stands what the committed miniature says. These results are not those.*"


def _execute_here(job: dict[str, Any]) -> dict[str, Any]:
    """Run papermill in this process; error and cell as in NotebookResult."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    executed = Path(job["executed"])
    try:
        papermill.execute_notebook(
            job["notebook"],
            job["executed"],
            job["parameters"],
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=job["cwd"],
            start_timeout=START_TIMEOUT,
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


def _end_with_the_parent(job: Path) -> None:
    """End when the pipe to the parent is closed; the kernel sees that and ends, too."""
    os.read(0, 1)  # nothing is ever sent
    shutil.rmtree(job, ignore_errors=True)
    os._exit(1)


def main(folder: str) -> None:
    """What the notebook's own process does."""
    job = Path(folder)
    # Ctrl-C ends it at once and the kernel with it, whatever papermill would make of an exception.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, args=[job], daemon=True).start()
    result = _execute_here(json.loads((job / "job.json").read_text()))
    write_text(job / "result.json", json.dumps(result))
