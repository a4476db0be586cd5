"""The command `bench`: run the benchmarks, print a Markdown table, keep it and a JSON file."""

from __future__ import annotations

import argparse
from pathlib import Path

from cds_lib.errors import UsageError

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
    """`bench [NAME ...]`: 0 when all were measured, else UsageError."""
    if unknown := sorted(set(args.names) - BENCHMARKS.keys()):
        raise UsageError(f"Unknown benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}.")
    if args.rounds < MIN_ROUNDS:
        raise UsageError(f"--rounds must be at least {MIN_ROUNDS}, not {args.rounds}: a median of fewer says little.")
    import importlib

    import torch

    from cds_lib.bench.timing import machine
    from cds_lib.files import write_json, write_text

    torch.set_num_threads(1)
    here = machine()
    lines = [f"Measured on {here['processor']} ({here['system']}), one thread, PyTorch {here['torch']}, medians of "]
    lines[0] += f"{args.rounds} rounds in turn. Only the ratios carry over to another machine."
    print(lines[0], flush=True)
    kept = []
    for name in [name for name in BENCHMARKS if name in args.names or not args.names]:
        lines += ["", f"**{name}** ({BENCHMARKS[name]})", "", "| case | ours, ms | against, ms | ours : against |"]
        lines += ["|---|---:|---:|---:|"]
        print("\n".join(lines[-5:]), flush=True)
        for row in importlib.import_module(f"cds_lib.bench.{name}").rows(args.rounds):
            lines.append(f"| {row.case} | {1e3 * row.ours:.2f} | {1e3 * row.reference:.2f} | {row.ratio:.3f} |")
            print(lines[-1], flush=True)
            kept.append(row.as_dict())
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "bench.json", {"machine": here, "rounds": args.rounds, "rows": kept})
    write_text(out / "bench.md", "\n".join(lines) + "\n")
    print(f"\nWritten: {out / 'bench.json'}, {out / 'bench.md'}")
    return 0
