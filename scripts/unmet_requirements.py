"""Exit 0 if this interpreter has what pyproject.toml asks for, else print what is missing and exit 1.

Usage: python unmet_requirements.py [EXTRA ...]. It reads only installed metadata, so it takes no noticeable time. It
must at least start on any Python 3, to say that the version is too old.
"""

import re
import sys
from pathlib import Path


def release(version: str) -> tuple:
    """Return the leading numbers of a version: '2.14.1+cu130' -> (2, 14, 1)."""
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version).group().split("."))


def unmet(extras: list) -> list:
    """Return the requirements of the project and the named extras that are not installed or older than their floor."""
    import tomllib  # new in 3.11
    from importlib.metadata import PackageNotFoundError, version

    text = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    missing = []
    for requirement in wanted:
        own = re.match(re.escape(project["name"]) + r"\[(.+)\]", requirement)
        if own:  # an extra that includes another
            wanted += project["optional-dependencies"][own.group(1)]
            continue
        name, floor = requirement.split(">=")
        try:
            met = release(version(name)) >= release(floor)
        except PackageNotFoundError:
            met = False
        if not met:
            missing.append(requirement)
    return missing


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 (what this very script is asked)
        sys.exit(f"it is Python {sys.version_info[0]}.{sys.version_info[1]}, and 3.11 or newer is needed")
    missing = unmet(sys.argv[1:])
    if missing:
        sys.exit("it lacks " + ", ".join(missing))


if __name__ == "__main__":
    main()
