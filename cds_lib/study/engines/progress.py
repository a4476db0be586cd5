"""Progress that reads well in a terminal, in a notebook and in a log file.

One line a finished run, always. What runs now is one live line in a terminal, and a line every half minute elsewhere.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cds_lib.files import refuse_no_file
from cds_lib.study.spec import RunSpec
from cds_lib.study.text import duration

_LIVE_SECONDS = 0.5
_LOG_SECONDS = 30.0


class Progress:
    """Counts finished runs, estimates the time left, prints.

    `jobs` runs go on at a time (0: it is not known beforehand; the most that did so far). `log` receives the lines too
    (appended).
    """

    def __init__(self, total: int, done: int, jobs: int, log: Path | None = None):
        self.total, self.done, self.jobs = total, done, jobs
        self.log = log
        self.live = sys.stdout.isatty()
        self.seconds: list[float] = []  # of the runs finished here
        self.running: dict[str, _Running] = {}  # by run id
        self.at_once = 0  # the most that have run at the same time
        self.last_print = time.monotonic()
        self.width = 0  # of the live line that the terminal shows

    def start(self, spec: RunSpec) -> None:
        """A run begins."""
        self.running[spec.id] = _Running(spec.label, spec.budget.epochs, time.monotonic())
        self.at_once = max(self.at_once, len(self.running))
        self.tick()

    def advance(self, spec: RunSpec, epochs_done: float) -> None:
        """A run has done this many epochs (a fraction is fine)."""
        self.running[spec.id].done = epochs_done
        self.tick()

    def finish(self, spec: RunSpec, text: str) -> None:
        """A run ended, well or badly: one line."""
        seconds = time.monotonic() - self.running.pop(spec.id).started
        self.seconds.append(seconds)
        self.done += 1
        self.say(f"[{self.done}/{self.total}] {spec.label} ({spec.id}): {text} in {duration(seconds)}{self._left()}")

    def skip(self, spec: RunSpec, text: str) -> None:
        """A run that cannot begin, or has begun in vain: one line."""
        self.requeue(spec)
        self.count(f"{spec.label} ({spec.id}): NOT STARTED: {text}")

    def requeue(self, spec: RunSpec) -> None:
        """A run does not go on for now, if it had begun at all."""
        self.running.pop(spec.id, None)

    def count(self, text: str) -> None:
        """One more is done, of which nothing was said before: one line."""
        self.done += 1
        self.say(f"[{self.done}/{self.total}] {text}")

    def leave_out(self, number: int) -> None:
        """So many of the runs will not be trained, and count no longer."""
        self.total -= number

    def tick(self) -> None:
        """Show what runs now, if it is time to."""
        now = time.monotonic()
        if not self.running or now - self.last_print < (_LIVE_SECONDS if self.live else _LOG_SECONDS):
            return
        self.last_print = now
        parts = [f"{run.label} epoch {run.done:.0f}/{run.epochs}" for run in self.running.values()]
        line = f"[{self.done}/{self.total}] running: {'; '.join(parts)}{self._left()}"
        if self.live:
            self._rewrite(line)
        else:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a lasting line."""
        if self.width:
            self._rewrite("")
            print("\r", end="")
        print(line, flush=True)
        self.last_print = time.monotonic()
        if self.log is not None:
            refuse_no_file(self.log)
            with open(self.log, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def _rewrite(self, line: str) -> None:
        """Put a line in the place of the live one; cut, since of one that wraps the first rows would stay."""
        columns = shutil.get_terminal_size().columns - 1
        line = line[:columns]
        print("\r" + line.ljust(min(self.width, columns)), end="", flush=True)
        self.width = len(line)

    def _left(self) -> str:
        """Time left, from the runs finished here and the pace of those that run."""
        now = time.monotonic()
        waiting = self.total - self.done - len(self.running)
        known = self.seconds + [run.total(now) for run in self.running.values() if run.done and now - run.started > 1]
        if not known or self.total == self.done:
            return ""
        mean = sum(known) / len(known)
        rest = sum(
            max(0.0, (run.total(now) if run.done else mean) - (now - run.started)) for run in self.running.values()
        )
        jobs = min(self.jobs or self.at_once, waiting + len(self.running))
        return f" | about {duration((rest + waiting * mean) / max(1, jobs))} left"


@dataclass
class _Running:
    label: str
    epochs: int
    started: float
    done: float = 0.0

    def total(self, now: float) -> float:
        """Seconds from start to end at the pace so far."""
        return (now - self.started) * self.epochs / self.done
