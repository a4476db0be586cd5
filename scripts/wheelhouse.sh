#!/usr/bin/env bash
# Every package of the lock in one folder, for machines without internet: `scripts/wheelhouse.sh DIR`, on the kind of machine
# that will use them and with the same Python, 3.11.2 being another than 3.11.7 (about 3 GB on Linux). There, with DIR copied:
#   PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR ./run_all.sh        # with uv: UV_NO_INDEX=1 UV_FIND_LINKS=DIR
# The hashes are checked twice, when packages are fetched and when they are installed. What is there is not fetched again.
set -euo pipefail
[ $# = 1 ] || { echo "usage: scripts/wheelhouse.sh DIR" >&2; exit 2; }
mkdir -p -- "$1"
destination=$(cd -- "$1" && pwd)
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
exec "${PYTHON:-$(find_python)}" -m pip download --require-hashes --no-deps --find-links "$destination" -d "$destination" -r requirements.lock
