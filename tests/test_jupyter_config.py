"""Running a notebook in JupyterLab leaves the repository as it was: what it shows is not saved beside its code."""

import json
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]


def test_notebooks_of_the_repository_are_saved_as_they_are_committed(tmp_path):
    config = SimpleNamespace(FileContentsManager=SimpleNamespace())
    path = ROOT / "jupyter_server_config.py"
    exec(compile(path.read_text(), str(path), "exec"), {"get_config": lambda: config, "__file__": str(path)})
    committed = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    run = json.loads(json.dumps(committed))
    run["metadata"]["language_info"] = {"name": "python"}
    for cell in run["cells"]:
        cell["metadata"] |= {"collapsed": True}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}], "execution_count": 3}
    for folder, same in ((ROOT / "notebooks", True), (tmp_path, False)):
        content = json.loads(json.dumps(run))
        manager = SimpleNamespace(_get_os_path=lambda name, folder=folder: str(folder / name))
        save = config.FileContentsManager.pre_save_hook
        save({"type": "notebook", "content": content}, "00_start_here.ipynb", contents_manager=manager)
        assert content == (committed if same else run)
