"""Commands of the study. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import argparse
import os
import sys
from collections.abc import Callable

from cds_lib import __version__
from cds_lib.errors import TrainingError, UsageError
from cds_lib.study.commands import checks, dry_run, export, own, study
from cds_lib.study.data import cli as data_cli
from cds_lib.study.errors import system_error
from cds_lib.study.plan import protocols
from cds_lib.study.processes import begin


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; an error is printed as one line."""
    try:
        begin()
        options = _parser().parse_args(arguments)
        for stream in (sys.stdout, sys.stderr):  # a path may hold characters that the terminal cannot encode
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        code = options.handler(options)
        sys.stdout.flush()  # the reader may have gone
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

    def command(
        name: str, handler: Callable, what: str, *shared: str, profile: str = "smoke", results: str = "<profile>"
    ) -> Callable:
        """Add a command and return its `add_argument`. shared: options that other commands have as well."""
        added = subparsers.add_parser(name, help=what, allow_abbrev=False)
        added.set_defaults(handler=handler)
        about = {
            "--profile": ("|".join(protocols.PROFILES), f"the budget (default: {profile})"),
            "--only": ("NAME,...", "these tables or notebooks only"),
            "--seeds": ("0,1,2", "seeds (default: the profile's)"),
            "--results": ("DIR", f"results folder (default: results/{results})"),
        }
        for option in shared:
            metavar, help_text = about[option]
            default = profile if option == "--profile" else ""
            added.add_argument(option, default=default, metavar=metavar, help=help_text)
        return added.add_argument

    plan = ("--profile", "--only", "--seeds", "--results")
    add = command("run-all", study.run_all, "train what is missing, execute the notebooks, write the report", *plan)
    add("--models", default="", metavar="NAME,...", help="train these networks only")
    add("--methods", default="", metavar="NAME,...", help="train these methods only")
    data_cli.add_data_root(add)
    add("--jobs", type=int, default=0, metavar="N", help="runs at a time (default: one a GPU or core)")
    add("--processes", type=int, default=1, metavar="N", help="processes, one a GPU, that each run is spread over")
    add("--engine", default="local", choices=("local", "slurm"), help="where runs execute")
    add("--slurm", action="append", default=[], metavar="KEY=VALUE", help="an option of the Slurm jobs (repeatable)")
    add("--compile", action="store_true", help="torch.compile the training step")
    add("--offline", action="store_true", help="never use the network (training never does)")
    add("--list", action="store_true", help="list tables, networks, methods and data, and stop")
    add("--dry-run", action="store_true", help="say what would be trained, and stop")
    add("--retry-failed", action="store_true", help="train again what failed before")

    command("report", study.report_again, "write tables, notebooks and index again; trains nothing", *plan)
    command("status", study.status, "what is done, running and failed", *plan)

    what = "train one run of your own and show it beside the study's"
    add = command("train", own.train_one, what, "--profile", "--results", results="mine")
    for name, kind in (("dataset", "data set"), ("model", "network"), ("method", "method")):
        add(f"--{name}", required=True, metavar="NAME", help=f"a {kind} of run-all --list")
    add("--setting", default="", metavar="NAME", help="of run-all --list; default: the first that fits")
    what = "an option of the method or the budget (repeatable)"
    add("--set", action="append", default=[], metavar="NAME=VALUE", help=what)
    add("--seed", type=int, default=0, metavar="N", help="default: 0")
    data_cli.add_data_root(add)

    what = "write the plain network of a finished run, without heads"
    add = command("export", export.export, what, "--profile", "--results")
    add("run", metavar="RUN_ID", help="12 digits: the folder's name in RESULTS/runs")
    add("out", metavar="OUT", help="the file to write, such as network.pt")

    what = "train a finished run again and compare it to the last digit"
    add = command("reproduce", checks.reproduce, what, "--results", results="mini")
    add("run", metavar="RUN_ID", help="12 digits: the folder's name in RESULTS/runs")
    add("--epochs", default="1", metavar="N|all", help="how many epochs to compare (default: 1)")
    data_cli.add_data_root(add)

    what = "set the results of another folder beside the committed ones"
    add = command("compare", checks.compare, what, *plan, profile="mini")
    add("folder", metavar="DIR", help="a results folder: DIR/runs/<id>")

    data_cli.add_parser(subparsers, dry_run.say_what_lacks)
    bench = subparsers.add_parser("bench")  # kept from version 0.1; without a help text it is not listed
    bench.add_argument("names", nargs="*")
    bench.set_defaults(handler=_no_bench)
    return parser


def _no_bench(options: argparse.Namespace) -> int:
    raise UsageError("The benchmarks are scripts now, such as benchmarks/loop_cost.py: see benchmarks/README.md.")
