"""Write an archive of the last commit, for deposit: `python scripts/archive.py OUT.zip`.

It holds the tracked files and `ro-crate-metadata.json` (RO-Crate 1.1), which lists their sizes and SHA-256 hashes. That
file is made from the commit each time and is not committed, so it cannot go stale.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import yaml

ROOT = Path(__file__).resolve().parent.parent
METADATA = "ro-crate-metadata.json"


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def crate(files: dict[str, bytes], commit: str, date: str) -> dict:
    """Return the metadata of these files, which are given by name."""
    citation = yaml.safe_load(files["CITATION.cff"])
    parts = [
        {"@id": name, "@type": "File", "contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": citation["title"],
        "description": citation["abstract"],
        "version": f"{citation['version']}, commit {commit}",
        "datePublished": date,
        "license": {"@id": f"https://spdx.org/licenses/{citation['license']}"},
        "citation": {"@id": f"https://doi.org/{citation['preferred-citation']['doi']}"},
        "hasPart": [{"@id": part["@id"]} for part in parts],
    }
    itself = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": [itself, root, *parts]}


def main(out: Path) -> None:
    git("archive", "--format=zip", f"--output={out.absolute()}", "HEAD")
    commit, date = git("show", "--no-patch", "--format=%H %cs", "HEAD").split()
    with ZipFile(out, "a", ZIP_DEFLATED) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        archive.writestr(METADATA, json.dumps(crate(files, commit, date), indent=1))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/archive.py OUT.zip")
    main(Path(sys.argv[1]))
