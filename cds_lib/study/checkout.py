"""Where this copy of the code is: the folder that holds the package, with notebooks and results if it is a checkout."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = CHECKOUT / "notebooks"
