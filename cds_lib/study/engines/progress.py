"""Progress that reads well in a terminal, in a notebook and in a log file.

Every finished run gets one line. What is running is a bar in a terminal, and a line every half minute elsewhere.
"""

import sys
import time
from pathlib import Path

from tqdm import tqdm

from cds_lib.study.plan.spec import RunSpec
from cds_lib.study.text import duration

_LOG_SECONDS = 30.0


class Progress:
    """Counts what is done of `total`, estimates the time left and prints; lines are also appended to the file `log`."""

    def __init__(self, total: int, done: int, log: Path | None = None):
        self.total, self.done, self.log = total, done, log
        self.running: dict[str, tuple[float, float, str]] = {}  # run id -> start time, fraction done, text
        self.before, self.began = done, time.monotonic()
        self.last_print = self.began
        how = {"unit": "run", "leave": False, "dynamic_ncols": True, "disable": not sys.stdout.isatty()}
        self.bar = tqdm(total=total, initial=done, file=sys.stdout, **how)

    def advance(self, spec: RunSpec, epochs_done: float) -> None:
        """Note that a run begins, or has done this many epochs (a fraction is fine)."""
        began, *_ = self.running.get(spec.id, (time.monotonic(),))
        words = f"{spec.label} epoch {epochs_done:.0f}/{spec.budget.epochs}"
        self.running[spec.id] = began, epochs_done / spec.budget.epochs, words
        running = self._show()
        if self.bar.disable and time.monotonic() - self.last_print >= _LOG_SECONDS:
            self.say(f"[{self.done}/{self.total}] running: {running}{self._left()}")

    def finish(self, spec: RunSpec, text: str) -> None:
        """Print one line for a run that has ended, well or badly."""
        began, *_ = self.running.pop(spec.id, (time.monotonic(),))
        self.count(f"{spec.label} ({spec.id}): {text} in {duration(time.monotonic() - began)}")

    def skip(self, spec: RunSpec, text: str) -> None:
        """Print one line for a run that cannot be trained."""
        self.requeue(spec)
        self.count(f"{spec.label} ({spec.id}): NOT STARTED: {text}")

    def requeue(self, spec: RunSpec) -> None:
        """Note that a run waits, perhaps again."""
        self.running.pop(spec.id, None)

    def count(self, text: str) -> None:
        """Count one more as ended, and print one line."""
        self.done += 1
        self._show()
        self.say(f"[{self.done}/{self.total}] {text}{self._left()}")

    def say(self, line: str) -> None:
        """Print a line that stays, and append it to the log."""
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()
        self.last_print = time.monotonic()
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def _show(self) -> str:
        """Update the bar; return a text of what is running."""
        running = "; ".join(words for _, _, words in self.running.values())
        self.bar.total, self.bar.n = self.total, round(self._done, 2)
        self.bar.set_postfix_str(running)
        return running

    @property
    def _done(self) -> float:
        """Finished runs, plus the finished fractions of running ones."""
        return self.done + sum(part for _, part, _ in self.running.values())

    def _left(self) -> str:
        """Return the time left at the pace so far, as text."""
        if self._done == self.before or self.done == self.total:
            return ""
        seconds = (time.monotonic() - self.began) * (self.total - self._done) / (self._done - self.before)
        return f" | about {duration(seconds)} left"
