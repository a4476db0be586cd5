"""The article is built from the tables, equals the committed one, and fails if the tables contradict it."""

import shutil

import pandas as pd
import pytest

from cds_lib.study.errors import RunError
from cds_lib.study.report.write import write_article
from run_folders import MINI


@pytest.fixture
def results(tmp_path):
    for folder in ("tables", "figures"):
        shutil.copytree(MINI / folder, tmp_path / folder)
    return tmp_path


def written(results):
    write_article(results)
    return (results / "article.pdf").read_bytes()


def test_the_committed_article_is_that_of_the_committed_tables(results):
    assert written(results) == (MINI / "article.pdf").read_bytes()


def test_numbers_are_those_of_the_tables_and_their_side_is_checked(results):
    path = results / "tables" / "comparisons.csv"
    committed, frame = written(results), pd.read_csv(path, dtype=str, keep_default_na=False)
    control = (frame["question"] == "control") & (frame["method"] == "cds") & (frame["metric"] == "test_top1_last")
    frame.loc[control, "low"] = "-9.5"
    frame.to_csv(path, index=False)
    assert written(results) != committed
    frame.loc[control, "side"] = "above"
    frame.to_csv(path, index=False)
    with pytest.raises(RunError, match="The article does not fit .*lies above"):
        write_article(results)
    (results / "tables" / "deviations.csv").unlink()
    with pytest.raises(RunError, match="The article does not fit"):
        write_article(results)
