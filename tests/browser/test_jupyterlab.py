"""Notebooks in a real JupyterLab, as a reader runs them: open, "Run All Cells", look.

One of them; all with CDS_TEST_ALL_NOTEBOOKS=1 in the environment, which takes some minutes.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from cds_lib.study.checkout import CHECKOUT as ROOT
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES

pytestmark = pytest.mark.xdist_group("browser")

EVERY = bool(os.environ.get("CDS_TEST_ALL_NOTEBOOKS"))
ALL = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
# In the smoke profile; it trains one of its two runs in JupyterLab. The others read what is committed.
SMOKE = {"00_start_here": {"profile": "smoke", "train": True}}
# Words of the result.
SHOWN = {"00_start_here": "Test accuracy after the last epoch", "table1_cifar100": "CDS minus the method of the row"}

SETTINGS = {
    # Cells that are out of sight stay in the page, where this test reads them.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
ERRORS = "[data-mime-type='application/vnd.jupyter.error']"
CONNECTED = f"""() => {{
    const kernel = document.querySelector("{PANEL} .jp-Toolbar-kernelName")?.textContent ?? 'No Kernel';
    return !kernel.includes('No Kernel') && document.querySelector('#jp-bottom-panel').textContent.includes('| Idle');
}}"""
ENDED = f"""() => {{
    const panel = document.querySelector("{PANEL}");
    const prompts = [...panel.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent);
    return panel.querySelector("{ERRORS}") || prompts.every(text => /\\[\\d+\\]/.test(text));
}}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, results):
    """Address of a JupyterLab with folders of its own, serving copies of the notebooks; ended with its kernels."""
    home = tmp_path_factory.mktemp("jupyterlab")
    work, mini = home / "work", home / "mini"
    for name, parameters in SMOKE.items():
        copy_notebook(name, work, results=str(results), **parameters)
    if EVERY:
        shutil.copytree(ROOT / "results" / "mini" / "runs", mini / "runs")
        for name in {*ALL} - SMOKE.keys():
            copy_notebook(name, work, profile="mini", results=str(mini), train=False)
    for name, content in SETTINGS.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    token = secrets.token_hex(16)
    folders = {f"JUPYTER_{name}_DIR": name.lower() for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {f"JUPYTERLAB_{name}_DIR": name.lower() for name in ("SETTINGS", "WORKSPACES")}
    folders["IPYTHONDIR"] = "ipython"
    environment = os.environ | {name: str(home / folder) for name, folder in folders.items()}
    environment |= {"HOME": str(home), "JUPYTER_TOKEN": token, "PYTHONPATH": str(ROOT)}
    options = "--no-browser --allow-root --ip=127.0.0.1 --ServerApp.port=0 --LabApp.extension_manager=readonly"
    command = [sys.executable, "-m", "jupyterlab", *options.split(), f"--ServerApp.root_dir={work}"]
    with open(home / "log.txt", "w") as log:
        server = subprocess.Popen(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"{address(server, home)}lab?token={token}"
    finally:
        end(server)


def copy_notebook(name, folder, **parameters):
    """The notebook with other values in its parameters cell; the repository's is not touched."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def address(server, home):
    """What the server says of itself once it listens."""
    for _ in range(600):
        assert server.poll() is None, (home / "log.txt").read_text()[-2000:]
        for path in (home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # half written
                return json.loads(path.read_text())["url"]
        time.sleep(0.2)
    raise AssertionError((home / "log.txt").read_text()[-2000:])


def end(server):
    """The server ends its kernels when asked to; what does not listen is killed, and kernels follow their server."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def changed_files():
    """What git says of the repository, None where it is no checkout."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        return None
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def window(browser, lab):
    """The page of the running JupyterLab, the requests it made, and the repository as it was before."""
    before = changed_files()
    page = browser.new_page()
    page.set_viewport_size({"width": 1400, "height": 1000})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(lab)
    page.wait_for_selector(".jp-DirListing-item", timeout=120_000)
    return page, asked, before


def run_all_cells(page, name):
    """Open a notebook by a double click, run it by the menu, and wait until every cell has run or one has failed."""
    page.locator(f".jp-DirListing-item[title*='{name}.ipynb']").dblclick()
    page.wait_for_function(CONNECTED, timeout=120_000)  # whoever runs a cell before that is asked for a kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ENDED, timeout=600_000)
    return page.locator(PANEL)


def close(page):
    """Close the notebook and end its kernel; JupyterLab asks whether that, and then saving, is meant."""
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="Close and Shut Down Notebook").click()
    until = time.monotonic() + 60
    while page.locator(PANEL).count():
        assert time.monotonic() < until, "the notebook does not close"
        for button in page.locator(".jp-Dialog .jp-mod-accept").all():
            button.click()
        page.wait_for_timeout(100)


def committed_plots(name):
    """How many the committed copy shows: none of what has not been trained yet."""
    path = ROOT / "results" / "mini" / "notebooks" / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells if path.exists() else []
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum("image/svg+xml" in output.get("data", {}) for output in outputs)


def each_notebook():
    rest = pytest.mark.skipif(not EVERY, reason="CDS_TEST_ALL_NOTEBOOKS=1 opens it")
    return [pytest.param(name, marks=() if name in SMOKE else rest) for name in ALL]


@pytest.mark.parametrize("name", each_notebook())
def test_a_notebook_runs_in_jupyterlab_and_shows_its_table_and_plots(window, results, name):
    page, _, _ = window
    try:
        began = time.monotonic()
        panel = run_all_cells(page, name)
        print(f"{name}: {time.monotonic() - began:.1f} s")
        assert panel.locator(ERRORS).all_inner_texts() == []
        assert SHOWN.get(name, "") in "".join(panel.locator(".jp-OutputArea-output").all_text_contents())
        assert panel.locator(".jp-OutputArea-output table:visible tbody tr").count() >= 2
        plots = panel.locator(".jp-RenderedSVG img, .jp-RenderedSVG svg")
        assert plots.count() >= committed_plots(name)
        for plot in plots.all():
            plot.scroll_into_view_if_needed()
            assert plot.bounding_box()["width"] > 300 and plot.bounding_box()["height"] > 100
    finally:
        close(page)  # or it would be in the way of the next
    if name == "00_start_here":  # what it lacked was trained from JupyterLab
        assert all(Store(results).is_done(run.id) for run in TABLES[name].runs("smoke", (0,)))


def test_nothing_left_this_machine_and_the_repository_is_as_it_was(window):
    _, asked, before = window
    assert asked
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "http://localhost:", "ws://localhost:", "data:", "blob:")
    assert [url for url in asked if not url.startswith(local)] == []
    assert changed_files() == before
