"""Execute a notebook through papermill, in its own process and with this interpreter's kernel.

The kernel named in the notebook's metadata is ignored: it may not be installed, or be another environment's. Every
notebook gets a process and private Jupyter folders, so that one that dies takes nothing with it. What goes wrong with
a notebook is a result, not an exception: the notebook is saved up to that point and the others go on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from cds_lib.errors import UsageError
from cds_lib.files import refuse_no_file
from cds_lib.study.errors import NothingRun, system_error
from cds_lib.study.files import write_text
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
    """How an execution ended. `error` is one line that names the cell, None if the notebook ran to its end."""

    name: str
    ok: bool
    seconds: float
    error: str | None


def execute(
    notebook: Path, output: Path, parameters: dict[str, Any], *, timeout: float | None = None
) -> NotebookResult:
    """Run `notebook` and save it with its outputs as `output`, whether it succeeds or not; stopped by Ctrl-C, it leaves
    `output` as it was. It works in a hidden folder beside `output`.

    The kernel's working directory is the folder above the notebook's (the repository), where relative paths in
    parameters start. Nothing is written beside the notebook.

    Args:
        parameters: scalars for the cell tagged `parameters`.
        timeout: seconds for the whole notebook; None waits.
    """
    notebook, output = Path(notebook).resolve(), Path(output).absolute()
    began = time.monotonic()

    def result(error: str | None) -> NotebookResult:
        return NotebookResult(notebook.stem, error is None, round(time.monotonic() - began, 1), error)

    if error := fault(notebook, parameters):
        return result(error)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{notebook.stem}-", dir=output.parent, ignore_cleanup_errors=True
        ) as folder:
            executed = Path(folder) / "executed.ipynb"
            for _ in range(START_ATTEMPTS):
                found = _in_own_process(Path(folder), notebook, executed, parameters, timeout)
                if not found["kernel_did_not_start"]:
                    break
            ended = result(found["error"])
            try:
                saved = _read(executed)
            except UsageError:  # papermill did not come to write it, or could not
                saved = _read(notebook)
        _clean(saved, notebook.name, ended)
        if parameters.get("profile", "mini") != "mini" or parameters.get("seeds"):
            _leave_out_readings(saved)
        write_text(output, nbformat.writes(saved) + "\n")
    except UsageError as error:
        return result(str(error))
    except OSError as error:
        return result(system_error(error))
    return ended


def stored(notebook: Path) -> tuple[nbformat.NotebookNode, NotebookResult]:
    """An executed notebook and the result that it carries; UsageError for one that `execute` did not write."""
    content = _read(notebook)
    try:
        found = content.metadata[METADATA]
        return content, NotebookResult(notebook.stem, found["ok"], float(found["seconds"]), found["error"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{notebook} is not an executed notebook: write it with run-all, or delete it.") from error


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        refuse_no_file(notebook)
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # a broken file can raise nearly anything
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UsageError(f"The notebook {notebook} cannot be read ({first}): get it again, or delete it.") from error


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
            where = _last_cell_started(executed)
            return {"error": f"{where}not finished after {timeout:g} s", "kernel_did_not_start": False}
    if process.returncode == -signal.SIGINT:  # Ctrl-C, which reaches the whole group: nothing is a result
        raise KeyboardInterrupt
    try:
        return json.loads((job / "result.json").read_text())
    except (OSError, ValueError):
        last = ((job / "output.txt").read_text().strip().splitlines() or ["no message"])[-1]
        return {
            "error": f"the process of the notebook ended with code {process.returncode}: {last}",
            "kernel_did_not_start": False,
        }


def _last_cell_started(executed: Path) -> str:
    """`cell "id": ` of the last cell that began, "" if none did."""
    if not executed.exists():
        return ""
    cells = nbformat.read(executed, as_version=4).cells
    started = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    return f'cell "{started[-1].id}": ' if started else ""


def _clean(notebook: nbformat.NotebookNode, name: str, result: NotebookResult) -> None:
    """Leave what belongs to the result; drop papermill's markers and the paths of this machine."""
    notebook.cells = [cell for cell in notebook.cells if ERROR_MARKER not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill's is random: the file would differ every time
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    if "papermill" in notebook.metadata:
        notebook.metadata["papermill"] |= {"input_path": name, "output_path": name}
    notebook.metadata[METADATA] = {"ok": result.ok, "seconds": result.seconds, "error": result.error}


def _leave_out_readings(notebook: nbformat.NotebookNode) -> None:
    """Put a line where a person has interpreted the committed miniature: other results may say something else."""
    for cell in notebook.cells:
        if READING in cell.metadata.get("tags", []):
            cell.source = "*Here stands what the committed miniature says. These results are not those.*"


def _execute_here(job: dict[str, Any]) -> dict[str, Any]:
    """Run papermill in this process; the error is one line, as in NotebookResult."""
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
        if error.ename == NothingRun.__name__:
            return {"error": None, "kernel_did_not_start": False}
        # The two marker cells are in the file already, the first at its top and the second before the failed cell.
        cell = nbformat.read(executed, as_version=4).cells[error.cell_index + 2]
        first = (error.evalue.strip() or "no message").splitlines()[0]
        return {"error": f'cell "{cell.id}": {error.ename}: {first}', "kernel_did_not_start": False}
    except DeadKernelError:
        where = _last_cell_started(executed)
        error = f"{where}the kernel died; the system may have run out of memory"
        return {"error": error, "kernel_did_not_start": False}
    except RuntimeError as error:
        if _last_cell_started(executed):
            raise
        return {"error": f"the kernel did not start ({str(error).splitlines()[0]})", "kernel_did_not_start": True}
    return {"error": None, "kernel_did_not_start": False}


def _end_with_the_parent(job: Path) -> None:
    """End when the pipe to the parent is closed; the kernel sees that and ends, too."""
    os.read(0, 1)  # nothing is ever sent
    shutil.rmtree(job, ignore_errors=True)
    os._exit(1)


def main(folder: str) -> None:
    """What the notebook's own process does."""
    job = Path(folder)
    threading.Thread(target=_end_with_the_parent, args=[job], daemon=True).start()
    result = _execute_here(json.loads((job / "job.json").read_text()))
    write_text(job / "result.json", json.dumps(result))
