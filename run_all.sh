#!/usr/bin/env bash
# The whole study, or a part of it: docs/running.md. Relative paths among the arguments are those of the caller.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"  # it was given to another shell: sh run_all.sh
set -euo pipefail
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do  # one at a time, which every readlink can
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname -- "$self")/$link ;; esac
done
# shellcheck source=scripts/environment.sh
source "$(dirname -- "$self")/scripts/environment.sh"
use_environment study
exec "$cds_python" -m cds_lib run-all "$@"
