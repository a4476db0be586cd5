"""The examples run, and what they train classifies images that it has not seen."""

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
# example -> the package that it is about, where the library does not need it
NEEDED = {
    "plain_loop": None,
    "timm_style": None,
    "lightning_module": "lightning",
    "huggingface_trainer": "transformers",
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"toy", *NEEDED}


@pytest.mark.parametrize("name", NEEDED)
def test_an_example_trains(name, monkeypatch, tmp_path):
    if NEEDED[name]:
        pytest.importorskip(NEEDED[name], reason=f"{NEEDED[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert importlib.import_module(name).main(epochs=3) > 0.5  # a quarter by chance
