"""An extension of JupyterLab's server that saves the notebooks of this repository without outputs, so that running one
changes no tracked file. It is on in the environment that `run_all.sh` makes. Notebooks elsewhere keep their outputs."""

from pathlib import Path
from typing import Any

from cds_lib.study.checkout import NOTEBOOKS


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    server.contents_manager.register_pre_save_hook(strip)


def strip(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Remove the outputs from the `model` that Jupyter is about to save at `path`."""
    file = Path(contents_manager._get_os_path(path)).resolve()
    if model["type"] != "notebook" or file.parent != NOTEBOOKS.resolve():
        return
    notebook = model["content"]
    notebook["metadata"] = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook["cells"]:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key == "tags"}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
