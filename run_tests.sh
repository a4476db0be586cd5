#!/usr/bin/env bash
# Run the tests: ./run_tests.sh [pytest arguments]. Paths in the arguments are relative to the repository.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"  # started with another shell: sh run_tests.sh
set -euo pipefail
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do  # one link at a time, which every readlink can do
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname -- "$self")/$link ;; esac
done
# shellcheck source=scripts/environment.sh
source "$(dirname -- "$self")/scripts/environment.sh"
use_environment test
cd "$cds_root"
# Single-threaded processes beat one with threads, and three of them keep two cores busy, since some tests wait. The
# argument "-n 0" turns the processes off.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Tests of a group run in the same process, because they share what is costly to make.
exec "$cds_python" -m pytest -n 3 --dist loadgroup "$@"
