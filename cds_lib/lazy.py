"""Package attributes that are imported on first use, and aliases of names that have moved."""

import ast
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def on_first_use(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package (PEP 562) whose names are imported on first use.

    The names are the imports in its `__init__.pyi` (Scientific Python's SPEC 1). So each name is written once, and
    editors and type checkers read from the same line where it comes from.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = None if homes[name] == package else import_module(homes[name])
        found = getattr(home, name) if hasattr(home, name) else import_module(f"{homes[name]}.{name}")
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__, lambda: sorted({*vars(sys.modules[package]), *homes}), list(homes)


def moved(old: str, *new: str) -> Callable[[str], Any]:
    """Return `__getattr__` of a moved module, which finds its names in `new` and issues a DeprecationWarning."""

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        for place in new:
            if hasattr(import_module(place), name):
                message = f"{old}.{name} is now {place}.{name}; the old name works until 2.0."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                return getattr(import_module(place), name)
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return __getattr__
