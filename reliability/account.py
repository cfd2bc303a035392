"""The findings of the parts: figures beside their targets, failures, and the place where they are written down."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.figures import Figure
from benchmarks.report import RESULTS, machine, table


@dataclass
class Account:
    """Grows while the parts run; one thread."""

    seed: int
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    whole: float = 0.0
    """Seconds that everything took."""
    _part: str = ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A context whose figures and failures belong to this part."""
        self._part, started = name, time.monotonic()
        self.say("begins")
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - started
            self.say(f"took {self.seconds[name]:.0f} s")

    def add(self, *figures: Figure) -> None:
        """Figures; one that misses its target is a failure. Not so a time, which is as much the machine's as ours."""
        for figure in figures:
            self.figures.append((self._part, figure))
            if figure.reached is False and figure.unit != "s":
                self.failures.append(f"{self._part}: {' '.join(figure.cells()[:2])}, not {figure.cells()[2]}")

    def note(self, text: str) -> None:
        """Something that a reader of the figures has to know."""
        self.notes.append(f"{self._part}: {text}")

    def fail(self, what: str) -> None:
        """Something went wrong; said at once."""
        self.failures.append(f"{self._part}: {what}")
        self.say(f"FAILED: {what}")

    def say(self, line: str) -> None:
        """To whoever waits."""
        print(f"[{self._part}] {line}", file=sys.stderr, flush=True)

    @property
    def failed(self) -> bool:
        return bool(self.failures)

    def merge(self, other: "Account") -> None:
        """Adds another account's figures and failures."""
        self.figures += other.figures
        self.notes += other.notes
        self.failures += other.failures
        self.seconds |= other.seconds

    def as_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them."""
        return {
            "seed": self.seed,
            "figures": [[part, asdict(figure)] for part, figure in self.figures],
            "notes": self.notes,
            "failures": self.failures,
            "seconds": self.seconds,
            "whole": self.whole,
        }

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> "Account":
        """The account of `as_json`'s output."""
        return cls(**{**said, "figures": [(part, Figure(**figure)) for part, figure in said["figures"]]})

    def markdown(self) -> str:
        rows = [[part, *figure.cells()] for part, figure in self.figures]
        took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        lines = [f"Seed {self.seed}. {took}; {self.whole:.0f} s in all.", ""]
        lines += [table(("part", "figure", "measured", "target", "reached"), rows)] if rows else []
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        lines += ["", *(f"- FAILED: {failure}" for failure in self.failures)] if self.failures else []
        return "\n".join(lines)

    def append_to_results(self, path: Path = RESULTS) -> None:
        """Adds a section beside those of the benchmarks: date, machine, command, table."""
        command = shlex.join(["python", "-m", "reliability", *sys.argv[1:]])
        head = f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n{machine()}\n\n`{command}`"
        path.write_text(f"{path.read_text()}\n{head}\n\n{self.markdown()}\n")


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed; of few values the upper ones count as they are."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def workers() -> int:
    """How many processes run side by side."""
    return min(2, os.cpu_count() or 1)
