"""JupyterLab reads this when it is started in this folder. Notebooks of notebooks/ are saved without what they show,
so that running one leaves the repository as it was. A copy of one elsewhere, as in results/, keeps it."""

from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent / "notebooks"


def strip(model, path, contents_manager, **_):
    """Before a file is saved."""
    file = Path(contents_manager._get_os_path(path)).resolve()
    if model["type"] != "notebook" or file.parent != NOTEBOOKS:
        return
    notebook = model["content"]
    notebook["metadata"] = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook["cells"]:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key == "tags"}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None


get_config().FileContentsManager.pre_save_hook = strip  # noqa: F821 (Jupyter's)
