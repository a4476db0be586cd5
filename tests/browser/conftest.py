"""Fixtures: a headless Chromium, and a results folder of the smoke profile with pages to open."""

import os
import shutil
from pathlib import Path

import pytest

from cds_lib.study import cli
from cds_lib.study.files import write_json
from cds_lib.study.report import notebooks, pages
from cds_lib.study.report.index import write_index
from cds_lib.study.store import Store
from cds_lib.study.tables import TABLES
from run_folders import top1, write_notebook, write_run

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
TRAINED_NETWORKS = ("resnet18", "preactresnet18")  # networks of Table 1; all others are rows marked as not run

HISTORY = """epoch,lr,train_loss,train_cross_entropy,images_per_second,test_top1,seconds
1,0.1,5.0,4.0,900.0,,1.5
2,0.1,4.0,3.0,900.0,10.0,1.5
"""

# A notebook with every kind of output that a page may have to show and that the study's own notebooks lack.
FAILING = [
    "import sys\nimport pandas as pd\nfrom IPython.display import SVG, display",
    "print('\\n'.join(f'line {i}' for i in range(60)))\nprint('a warning', file=sys.stderr)",
    "a_call_that_is_longer_than_any_screen_is_wide = [" + ", ".join(map(str, range(80))) + "]",
    "display(pd.DataFrame([range(1000, 1012)]))",
    "raise ValueError('\\x1b[31mred\\x1b[0m and \\x1b[34mblue\\x1b[0m')",
]


@pytest.fixture(scope="session")
def results(server, tmp_path_factory):
    """Return a smoke results folder: some runs, the pages of Table 1 and of a failed notebook, and the index."""
    folder = tmp_path_factory.mktemp("browser") / "results"
    write_some(folder)
    assert cli.main(["report", "--only", "table1_cifar100", "--results", str(folder)]) == 0
    add_failures(folder)
    write_index(folder, "smoke")
    return folder


def write_some(folder):
    """Write ten runs of Table 1, and copy the longer committed run of the first notebook, which all profiles share."""
    specs = [spec for spec in TABLES["table1_cifar100"].runs("smoke", (0,)) if spec.model in TRAINED_NETWORKS]
    store = Store(folder)
    for number, spec in enumerate(specs):
        status = {"state": "done", "started": "2026-01-02T10:00:00+00:00", "device": "cpu", "processes": 1}
        write_run(store, spec, top1(10.0 + number) | {"epochs": 2}, status, HISTORY)
    (_, longer) = TABLES["00_start_here"].runs("smoke", (0,))
    shutil.copytree(ROOT / "results" / "mini" / "runs" / longer.id, store.run_dir(longer.id))


def add_failures(folder):
    """Add an executed and rendered notebook that failed, and a failed run."""
    source = write_notebook(folder.parent / "repository" / "notebooks" / "failing.ipynb", *FAILING)
    executed = folder / "notebooks" / "failing.ipynb"
    assert "ValueError" in next(notebooks.execute([(source, executed)], {"profile": "smoke"})).error
    pages.render_notebook(executed, folder / "html")
    spec = TABLES["table1_cifar100"].runs("smoke", (1,))[0]
    write_json(folder / "runs" / spec.id / "spec.json", spec.to_dict())
    write_json(folder / "runs" / spec.id / "status.json", {"state": "failed", "error": "a sentence"})


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a Playwright context of a Chromium with an empty profile; always closed at the end of the module."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium: install Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    profile = tmp_path_factory.mktemp("chromium")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            profile / "data",
            executable_path=executable,
            args=ARGUMENTS,
            headless=True,
            env={**os.environ, "HOME": str(profile)},
        )
        try:
            yield context
        finally:
            context.close()
