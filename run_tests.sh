#!/usr/bin/env bash
# The tests: ./run_tests.sh [pytest arguments]. Paths among the arguments are relative to the repository.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"  # it was given to another shell: sh run_tests.sh
set -euo pipefail
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do  # one at a time, which every readlink can
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname -- "$self")/$link ;; esac
done
# shellcheck source=scripts/environment.sh
source "$(dirname -- "$self")/scripts/environment.sh"
use_environment test
cd "$cds_root"
# Single-threaded processes beat one with threads, and three keep two cores busy, since some tests wait; "-n 0" among the
# arguments turns them off.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Tests of a group share what is costly to make: they run in the same process.
exec "$cds_python" -m pytest -n 3 --dist loadgroup "$@"
