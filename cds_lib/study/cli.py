"""The command line. Exit code 0 done, 1 failed, 2 asked wrongly, 130 stopped."""

from __future__ import annotations

import argparse
import os
import sys

from cds_lib import __version__
from cds_lib.errors import TrainingError, UsageError
from cds_lib.study.commands import compare, dry_run, export, reproduce, study, train
from cds_lib.study.data import cli as data_cli
from cds_lib.study.errors import system_error
from cds_lib.study.plan import protocols
from cds_lib.study.processes import begin


def main(arguments: list[str] | None = None) -> int:
    """Run one command and turn what can go wrong into one line and an exit code."""
    try:
        begin()
        options = _parser().parse_args(arguments)
        for stream in (sys.stdout, sys.stderr):  # a path may hold what the terminal's encoding does not
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        code = options.handler(options)
        sys.stdout.flush()  # what is left in it may have no reader
        return code
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {system_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cds_lib", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    run_all = subparsers.add_parser(
        "run-all", help="train what is missing, execute the notebooks, write the report", allow_abbrev=False
    )
    _common(run_all)
    run_all.add_argument("--models", default="", metavar="NAME,...", help="train these networks only")
    run_all.add_argument("--methods", default="", metavar="NAME,...", help="train these methods only")
    data_cli.add_data_root(run_all)
    run_all.add_argument("--jobs", type=int, default=0, metavar="N", help="runs at a time (default: one a GPU or core)")
    run_all.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes, one a GPU, that each run is spread over"
    )
    run_all.add_argument("--engine", default="local", choices=("local", "slurm"), help="where runs execute")
    run_all.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="an option of the Slurm jobs (repeatable)"
    )
    run_all.add_argument("--compile", action="store_true", help="torch.compile the training step")
    run_all.add_argument("--offline", action="store_true", help="never use the network (training never does)")
    run_all.add_argument("--list", action="store_true", help="list tables, networks, methods and data, and stop")
    run_all.add_argument("--dry-run", action="store_true", help="say what would be trained, and stop")
    run_all.add_argument("--retry-failed", action="store_true", help="train again what failed before")
    run_all.set_defaults(handler=study.run_all)

    report = subparsers.add_parser(
        "report", help="write tables, notebooks and index again; trains nothing", allow_abbrev=False
    )
    _common(report)
    report.set_defaults(handler=study.report_again)

    status = subparsers.add_parser("status", help="what is done, running and failed", allow_abbrev=False)
    _common(status)
    status.set_defaults(handler=study.status)

    train.add_parser(subparsers)
    export.add_parser(subparsers)
    reproduce.add_parser(subparsers)
    compare.add_parser(subparsers)
    data_cli.add_parser(subparsers, dry_run.say_what_lacks)
    bench = subparsers.add_parser("bench")  # of version 0.1; without a help it is not listed
    bench.add_argument("names", nargs="*")
    bench.set_defaults(handler=_no_bench)
    return parser


def _no_bench(options: argparse.Namespace) -> int:
    raise UsageError("The benchmarks are scripts now, such as benchmarks/loop_cost.py: see benchmarks/README.md.")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", default="smoke", metavar="|".join(protocols.PROFILES), help="the budget (default: smoke)"
    )
    parser.add_argument("--only", default="", metavar="NAME,...", help="these tables or notebooks only")
    parser.add_argument("--seeds", default="", metavar="0,1,2", help="seeds (default: the profile's)")
    parser.add_argument("--results", default="", metavar="DIR", help="results folder (default: results/<profile>)")
