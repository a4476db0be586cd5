#!/usr/bin/env bash
# Download every package of the lock into DIR (about 3 GB on Linux), for machines without internet: `scripts/wheelhouse.sh DIR`.
# Run it on the same kind of machine with the same Python (3.11.2 is not 3.11.7). Then, on the other machine, with DIR copied:
#   PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR ./run_all.sh        # with uv: UV_NO_INDEX=1 UV_FIND_LINKS=DIR
# The hashes are checked twice, at download and at installation. Packages that are already in DIR are not fetched again.
set -euo pipefail
[ $# = 1 ] || { echo "usage: scripts/wheelhouse.sh DIR" >&2; exit 2; }
mkdir -p -- "$1"
destination=$(cd -- "$1" && pwd)
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
exec "${PYTHON:-$(find_python)}" -m pip download --require-hashes --no-deps --find-links "$destination" -d "$destination" -r requirements.lock
