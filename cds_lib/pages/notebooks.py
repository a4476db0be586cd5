"""Execute a notebook through papermill, in its own process and with this interpreter's kernel.

The kernel named in the notebook's metadata is ignored: it may not be installed, or be another environment's. Every
notebook gets a process and private Jupyter folders, so that one that dies takes nothing with it. What goes wrong
inside a notebook is a result, not an exception: the notebook is saved up to that point and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from cds_lib.checkout import CHECKOUT
from cds_lib.errors import UsageError
from cds_lib.files import write_text

# Some starts fail for reasons that have nothing to do with the notebook, such as a port taken in the same instant.
START_ATTEMPTS = 3
START_TIMEOUT = 120
KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
_PROCESS = f"""import sys
from cds_lib import processes
processes.begin()  # before nbformat is imported
from {__name__} import main
main(sys.argv[1])"""
# Papermill marks a failed notebook with cells of its own; the report has a banner instead.
ERROR_MARKER = "papermill-error-cell-tag"
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
    `output` as it was.

    The kernel's working directory is the folder above the notebook's (the repository), where relative paths in
    parameters start. Nothing is written beside the notebook.

    Args:
        parameters: scalars for the cell tagged `parameters`.
        timeout: seconds for the whole notebook; None waits.

    Raises:
        UsageError: the notebook cannot be read, or declares no parameter of such a name.
    """
    notebook, output = Path(notebook).resolve(), Path(output)
    _check_parameters(notebook, parameters)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="notebook-", ignore_cleanup_errors=True) as folder:
        job = Path(folder)
        executed = job / "executed.ipynb"
        for _ in range(START_ATTEMPTS):
            found = _in_own_process(job, notebook, executed, parameters, timeout)
            if not found["kernel_did_not_start"]:
                break
        seconds, error = round(time.monotonic() - began, 1), found["error"]
        result = NotebookResult(notebook.stem, error is None, seconds, error)
        saved = nbformat.read(executed if executed.exists() else notebook, as_version=4)
    _clean(saved, notebook.name, result)
    write_text(output, nbformat.writes(saved) + "\n")
    return result


def stored_result(notebook: Path) -> NotebookResult:
    """The result that an executed notebook carries; UsageError for one that `execute` did not write."""
    found = _read(notebook).metadata.get(METADATA)
    try:
        return NotebookResult(notebook.stem, found["ok"], float(found["seconds"]), found["error"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{notebook} is not an executed notebook: write it with run-all, or delete it.") from error


def parameter_names(notebook: Path) -> set[str]:
    """Names that the notebook's cell tagged `parameters` declares."""
    from papermill import inspect_notebook  # slow to import, and not needed to read results

    return set(inspect_notebook(str(notebook)))


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # a broken file can raise nearly anything
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UsageError(f"The notebook {notebook} cannot be read ({first}): get it again, or delete it.") from error


def _check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Papermill only logs a misspelt parameter and runs with the default."""
    _read(notebook)
    declared = parameter_names(notebook)
    unknown = sorted(parameters.keys() - declared)
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        raise UsageError(f"The notebook {notebook.name} has no parameter {', '.join(unknown)}; it declares: {known}.")


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
    environment = os.environ | {
        "JUPYTER_PATH": str(job / "share"),
        "JUPYTER_DATA_DIR": str(job / "data"),
        "JUPYTER_CONFIG_DIR": str(job / "config"),
        "JUPYTER_RUNTIME_DIR": str(job / "runtime"),
        "IPYTHONDIR": str(job / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH")))),
    }
    # Its output goes to a file: a pipe would stay open, and be waited for, as long as any grandchild lives.
    with open(job / "output.txt", "w") as log:
        try:
            process = subprocess.run(
                [sys.executable, "-c", _PROCESS, str(job)],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
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


def main(folder: str) -> None:
    """What the notebook's own process does."""
    job = Path(folder)
    result = _execute_here(json.loads((job / "job.json").read_text()))
    write_text(job / "result.json", json.dumps(result))
