"""`python -m cds_lib`: the command behind run_all.sh."""

import os
import signal
import sys

if __name__ == "__main__":
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    if on_ctrl_c is signal.default_int_handler:  # background jobs of a shell ignore SIGINT
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # during imports there is nothing to clean up
    try:
        import cds_lib.study  # noqa: F401 (it checks that its packages are installed)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    from cds_lib.study.cli import main

    signal.signal(signal.SIGINT, on_ctrl_c)
    sys.exit(main())
