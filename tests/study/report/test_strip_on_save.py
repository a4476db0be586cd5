"""Running a notebook in JupyterLab leaves the repository unchanged: outputs are not saved with the code."""

import copy
import json
import re
from types import SimpleNamespace

import pytest

from cds_lib.study.checkout import CHECKOUT, NOTEBOOKS
from cds_lib.study.report import strip_on_save


@pytest.mark.parametrize("here", [True, False])
def test_notebooks_of_the_repository_are_saved_as_they_are_committed(tmp_path, here):
    committed = json.loads((NOTEBOOKS / "00_start_here.ipynb").read_text(encoding="utf-8"))
    run = copy.deepcopy(committed)
    run["metadata"]["language_info"] = {"name": "python"}
    for cell in run["cells"]:
        cell["metadata"] |= {"collapsed": True}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}], "execution_count": 3}
    content, folder, hooks = copy.deepcopy(run), NOTEBOOKS if here else tmp_path, []
    manager = SimpleNamespace(_get_os_path=lambda name: str(folder / name), register_pre_save_hook=hooks.append)
    strip_on_save._load_jupyter_server_extension(SimpleNamespace(contents_manager=manager))
    (save,) = hooks
    save(model={"type": "notebook", "content": content}, path="00_start_here.ipynb", contents_manager=manager)
    assert content == (committed if here else run)


def test_the_environment_switches_it_on():
    script = (CHECKOUT / "scripts" / "environment.sh").read_text()
    (settings,) = re.findall(r"printf '(\{.*jpserver_extensions.*\})\\n'", script)
    assert json.loads(settings) == {"ServerApp": {"jpserver_extensions": {strip_on_save.__name__: True}}}
    assert strip_on_save._jupyter_server_extension_points() == [{"module": strip_on_save.__name__}]
