"""Checks of a notebook file before it is executed; imports nothing slow."""

import ast
import json
from collections.abc import Iterable
from pathlib import Path

PARAMETERS = ("profile", "results", "data_root", "seeds", "train")  # of every notebook
# What `fork_server` imports once for all notebooks: this code, and what most notebooks import. A command that has
# trained already has a server without these modules; each notebook then imports them itself.
PRELOAD = [f"cds_lib.study.{name}" for name in "report.kernel report.notebooks session report.registered".split()]
PRELOAD += ["papermill", "seaborn", "matplotlib.pyplot"]


def fault(notebook: Path, parameters: Iterable[str]) -> str | None:
    """Return one sentence why the notebook cannot be executed with parameters of these names, or None if it can.

    Papermill would only log a parameter that is not declared, and run with the default.
    """
    try:
        declared = parameter_names(notebook)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError) as error:
        why = " ".join((str(error) or type(error).__name__).split())[:200]
        return f"The notebook {notebook} cannot be read ({why}): get it again, or delete it."
    unknown = sorted(set(parameters) - declared)
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        return f"The notebook {notebook} has no parameter {', '.join(unknown)}; it declares: {known}."
    return None


def parameter_names(notebook: Path) -> set[str]:
    """Return the names assigned in the cell tagged `parameters`. A damaged file can raise nearly any error."""
    for cell in json.loads(notebook.read_bytes())["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            assigned = [node for node in ast.parse("".join(cell["source"])).body if isinstance(node, ast.Assign)]
            return {name.id for node in assigned for name in node.targets if isinstance(name, ast.Name)}
    return set()
