"""Run notebooks in a real JupyterLab as a reader does: open, "Run All Cells", look.

Only one notebook runs by default. CDS_TEST_ALL_NOTEBOOKS=1 runs all of them, which takes some minutes.
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
# This notebook uses the smoke profile and trains one of its two runs in JupyterLab. The others read committed results.
SMOKE = {"00_start_here": {"profile": "smoke", "train": True}}
# Text that the output must contain.
SHOWN = {"00_start_here": "Test accuracy after the last epoch", "table1_cifar100": "CDS minus the method of the row"}

SETTINGS = {
    # Keep invisible cells in the page, because this test reads them.
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
    """Serve copies of the notebooks from a JupyterLab with its own folders; yield its address and end it."""
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
    """Copy the notebook with other values in its parameters cell; the original is not touched."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def address(server, home):
    """Return the URL of the server once it listens."""
    for _ in range(600):
        assert server.poll() is None, (home / "log.txt").read_text()[-2000:]
        for path in (home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # half written
                return json.loads(path.read_text())["url"]
        time.sleep(0.2)
    raise AssertionError((home / "log.txt").read_text()[-2000:])


def end(server):
    """Terminate the server, which ends its kernels. Kill it if it does not respond; its kernels then end with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def changed_files():
    """Return the git status of the repository, or None if it is not a checkout."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        return None
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def window(browser, lab):
    """Return the JupyterLab page, the list of its requests, and the git status from before."""
    before = changed_files()
    page = browser.new_page()
    page.set_viewport_size({"width": 1400, "height": 1000})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(lab)
    page.wait_for_selector(".jp-DirListing-item", timeout=120_000)
    return page, asked, before


def run_all_cells(page, name):
    """Open a notebook with a double click, run it from the menu, wait until all cells have run or one has failed."""
    page.locator(f".jp-DirListing-item[title*='{name}.ipynb']").dblclick()
    page.wait_for_function(CONNECTED, timeout=120_000)  # running a cell earlier would open a dialog about the kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ENDED, timeout=600_000)
    return page.locator(PANEL)


def close(page):
    """Close the notebook and end its kernel. JupyterLab asks for confirmation of both this and saving."""
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="Close and Shut Down Notebook").click()
    until = time.monotonic() + 60
    while page.locator(PANEL).count():
        assert time.monotonic() < until, "the notebook does not close"
        for button in page.locator(".jp-Dialog .jp-mod-accept").all():
            button.click()
        page.wait_for_timeout(100)


def committed_plots(name):
    """Return the number of plots in the committed copy; runs that are not trained yet have no plots."""
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
        close(page)  # an open notebook would be in the way of the next one
    if name == "00_start_here":  # the missing run was trained in JupyterLab
        assert all(Store(results).is_done(run.id) for run in TABLES[name].runs("smoke", (0,)))


def test_nothing_left_this_machine_and_the_repository_is_as_it_was(window):
    _, asked, before = window
    assert asked
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "http://localhost:", "ws://localhost:", "data:", "blob:")
    assert [url for url in asked if not url.startswith(local)] == []
    assert changed_files() == before
