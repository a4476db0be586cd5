"""`python -m cds_lib`: the command behind run_all.sh."""

import sys

from cds_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
