"""The folder that holds this copy of the package; a checkout has notebooks and results there."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = CHECKOUT / "notebooks"
