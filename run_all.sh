#!/usr/bin/env bash
# The whole study, or a part of it: README.md, "Options". Relative paths among the arguments are those of the caller.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
use_environment
exec "$cds_python" -m cds_lib run-all "$@"
