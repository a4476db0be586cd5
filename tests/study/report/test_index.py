"""The index shows only answers that the runs support, works if any part is missing, and links every run."""

import shutil
from itertools import pairwise

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from cds_lib.study import statistics
from cds_lib.study.report.comparisons import COMPARED, comparisons
from cds_lib.study.report.frame import every_result, tidy
from cds_lib.study.report.index import answer, read_cards, write_index, write_provenance
from cds_lib.study.report.table_files import write_table
from cds_lib.study.report.verdicts import claimed
from cds_lib.study.store import Store
from cds_lib.study.tables import SUMMARY, TABLES, official
from run_folders import MINI, top1, write_run

pytestmark = pytest.mark.xdist_group("index")  # the fixture is costly: once, in one process
TABLE = TABLES["table1_cifar100"]
RESTS_ON = [TABLES[name] for name in COMPARED]


def page_of(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def index(results, profile="mini"):
    return page_of(write_index(results, profile))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write ResNet-18 runs of the baseline and CDS with three seeds; CDS is two points ahead."""
    folder = tmp_path_factory.mktemp("results")
    store = Store(folder)
    for cell in TABLE.cells("mini", (0, 1, 2)):
        if cell.model == "resnet18" and cell.method in ("baseline", "cds"):
            for spec in cell.specs:
                value = 30.0 + spec.seed / 10 + 2 * (cell.method == "cds")
                history = "epoch,train_loss,train_cross_entropy\n1,2.0,2.0\n2,1.0,1.0\n"
                write_run(store, spec, top1(value) | {"epochs": 2}, {"state": "done"}, history)
    frames = every_result([*official(), *RESTS_ON], "mini", (0, 1, 2), store)
    write_table(tidy(frames[TABLE.name]), TABLE, folder)
    write_table(claimed(frames, "mini", (0, 1, 2), store), TABLES[SUMMARY], folder)
    comparisons(frames).to_csv(folder / "tables" / "comparisons.csv", index=False)
    return folder


@pytest.fixture
def results(written, tmp_path):
    return shutil.copytree(written, tmp_path / "results")


def test_the_committed_runs_bear_out_every_answer():
    compared = pd.read_csv(MINI / "tables" / "comparisons.csv").astype({"above": "Int64"})
    found = {card["question"]: answer(card, compared) for card in read_cards()}
    assert len(found) >= 8 and all(found.values()), found
    assert all(card["page"] in TABLES for card in read_cards())


def test_the_committed_comparisons_follow_from_the_committed_runs():
    made = comparisons(every_result(RESTS_ON, "mini", None, Store(MINI))).to_csv(index=False, lineterminator="\n")
    assert made == (MINI / "tables" / "comparisons.csv").read_text(encoding="utf-8")


def test_an_answer_that_the_runs_do_not_bear_out_is_not_shown(results):
    compared = pd.read_csv(results / "tables" / "comparisons.csv").astype({"above": "Int64"})
    first = read_cards()[0]
    assert first["question"].startswith("Does CDS beat the baseline") and answer(first, compared) is None
    page = index(results)
    assert "do not support the committed answer" in page.find(class_="card").get_text()
    assert not page.find(class_="lead")
    one = {**first, "evidence": first["evidence"][:1], "answer": "{0}"}
    assert answer(one, compared).startswith("+2.0 [")
    assert not index(results, "smoke").find(class_="card")


def test_claims_are_counted_and_those_of_one_seed_called_untested(results):
    table = index(results).find(id="verdicts").find_next("table")
    head = [cell.get_text() for cell in table.thead.find_all("th")]
    rows = {row.th.get_text(): [cell.get_text() for cell in row.find_all("td")] for row in table.tbody.find_all("tr")}
    assert head[0] == "table" and statistics.CONFIRMED in head and statistics.NOT_RUN in head
    counts = dict(zip(head[1:], rows[TABLE.title], strict=True))
    assert counts[statistics.CONFIRMED] == "1"
    claims = [row.get_text() for row in index(results).find(class_="claims").tbody.find_all("tr")]
    assert any("CDS − baseline" in claim and "less" in claim for claim in claims)


@pytest.mark.parametrize("missing", ["tables", "tables/summary.csv", "tables/comparisons.csv", "runs"])
def test_any_part_may_be_missing(results, missing):
    (results / missing).rename(results / "gone")
    page = index(results)
    levels = [int(heading.name[1]) for heading in page.find_all(["h1", "h2", "h3"])]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_every_run_is_on_its_page_and_every_cell_leads_to_its_runs(results):
    write_provenance(results)
    index(results)
    runs = page_of(results / "runs.html")
    assert {run["id"] for run in runs.find_all(class_="run")} == set(Store(results).ids())
    assert runs.find("polyline")["points"] == "0,1 120,23"
    (results / "html").mkdir(exist_ok=True)
    (results / "html" / f"{TABLE.name}.html").touch()
    index(results)
    runs = page_of(results / "runs.html")
    back = {link.get_text() for link in runs.find_all("a", href=f"html/{TABLE.name}.html")}
    assert f"{TABLE.title}, CDS" in back
    found = pd.read_json(results / "provenance.json", typ="series")[TABLE.name]
    cell = next(cell for cell in TABLE.cells("mini", (0, 1, 2)) if (cell.model, cell.method) == ("resnet18", "cds"))
    assert found["cifar100/resnet18/cds/supervised/test_top1_last"] == [spec.id for spec in cell.specs]
