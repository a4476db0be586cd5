"""The command `bench`: run the benchmarks, print Markdown tables, keep them and a JSON file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cds_lib.errors import UsageError
from cds_lib.files import write_json, write_text

# What the two columns of times are, by benchmark; the modules are imported when they run, since torch is slow to.
BENCHMARKS = {
    "augmentation": "both views of a batch: ours, the released pipeline with Pillow",
    "contrastive_loss": "four taps, forward and backward: ours, four straightforward calls",
    "loop_cost": "a step, in epochs of 20: the training loop, bare passes of the network and its heads",
    "released_step": "a step of CDS as released at 2x32 views: the training loop, bare passes, a straightforward port",
    "method_cost": "a step: the method, bare forward and backward passes of all its networks",
    "growth": "the case, the first case of its kind: how the loss and a CDS step grow",
    "jobs": "the same runs: two at a time, one at a time",
    "start": "whole processes: run-all, the imports it needs; a notebook with its pages, its cells alone",
}
MIN_ROUNDS = 20


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command; it sets `handler(args) -> exit code`."""
    parser = subparsers.add_parser("bench", help="measure the study's own code on one core", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=25, metavar="N", help=f"of each variant, at least {MIN_ROUNDS}")
    parser.add_argument("--out", default="results/bench", metavar="DIR", help="for bench.json and bench.md")
    parser.set_defaults(handler=bench)


def bench(args: argparse.Namespace) -> int:
    """`bench [NAME ...]`: 0 when all were measured, else UsageError.

    Each is kept as soon as it is measured; those that are not asked for stay as they were.
    """
    if unknown := sorted(set(args.names) - BENCHMARKS.keys()):
        raise UsageError(f"Unknown benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}.")
    if args.rounds < MIN_ROUNDS:
        raise UsageError(f"--rounds must be at least {MIN_ROUNDS}, not {args.rounds}: a median of fewer says little.")
    import importlib

    import torch

    from cds_lib.study.bench.timing import machine

    torch.set_num_threads(1)
    out = Path(args.out)
    kept = _kept(out)
    _keep(out, kept)  # a folder that cannot be written is found out before anything is measured
    for name in [name for name in BENCHMARKS if name in args.names or not args.names]:
        found = {"machine": machine(), "rounds": args.rounds, "rows": []}
        print("\n".join(_heading(name, found)), flush=True)
        for row in importlib.import_module(f"cds_lib.study.bench.{name}").rows(args.rounds):
            found["rows"].append(row.as_dict())
            print(_line(found["rows"][-1]), flush=True)
        kept[name] = found
        _keep(out, kept)
    print(f"\nWritten: {out / 'bench.json'}, {out / 'bench.md'}")
    return 0


def _kept(out: Path) -> dict[str, dict]:
    """What an earlier call has measured; UsageError if the file is not one of ours."""
    path = out / "bench.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.exists() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: delete it, or give --out another folder.") from error


def _keep(out: Path, kept: dict[str, dict]) -> None:
    """Write both files, the benchmarks in their usual order."""
    out.mkdir(parents=True, exist_ok=True)
    ordered = {name: kept[name] for name in BENCHMARKS if name in kept}
    write_json(out / "bench.json", {"benchmarks": ordered})
    lines = ["Medians of rounds in turn, on one thread. Only the ratios carry over to another machine."]
    for name, found in ordered.items():
        lines += ["", *_heading(name, found), *map(_line, found["rows"])]
    write_text(out / "bench.md", "\n".join(lines) + "\n")


def _heading(name: str, found: dict) -> list[str]:
    here = found["machine"]
    where = f"{here['processor']} ({here['system']}), PyTorch {here['torch']}, {found['rounds']} rounds"
    return [
        f"**{name}** ({BENCHMARKS[name]}; {where})",
        "",
        "| case | ours, ms | against, ms | ours : against |",
        "|---|---:|---:|---:|",
    ]


def _line(row: dict) -> str:
    return f"| {row['case']} | {1e3 * row['ours']:.2f} | {1e3 * row['reference']:.2f} | {row['ratio']:.3f} |"
