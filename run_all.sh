#!/usr/bin/env bash
# Run the whole study or a part of it: docs/running.md. Relative paths in the arguments start at the caller's folder.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"  # started with another shell: sh run_all.sh
set -euo pipefail
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do  # one link at a time, which every readlink can do
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname -- "$self")/$link ;; esac
done
# shellcheck source=scripts/environment.sh
source "$(dirname -- "$self")/scripts/environment.sh"
use_environment study
exec "$cds_python" -m cds_lib run-all "$@"
