"""The report of a simulation: the number of lives, their crashes, and a failing one in words with its replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from streamflow.testing.simulation.points import ANY_CALL, ANY_STEP
from streamflow.testing.simulation.run import Outcome

__all__ = ["Failure", "Simulation"]

_LAST = 12


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that fails: the error, the simplest life found that fails, the last events before, the trace."""

    seed: int
    what: str
    trace: str
    simplest: tuple[str, ...] = ()
    simplest_what: str = ""
    last: tuple[str, ...] = ()
    tries: int = 0

    @classmethod
    def of(cls, outcome: Outcome, simplest: Outcome, tries: int) -> Failure:
        """The failure of a seed's outcome and that of its shrunk schedule."""
        return cls(
            outcome.schedule.seed,
            outcome.failure or "",
            outcome.digest,
            tuple(simplest.schedule.words()),
            simplest.failure or "",
            simplest.last[-_LAST:],
            tries,
        )

    def text(self, replay: str) -> str:
        """The report for people; `replay` is the command that runs the seed again."""
        lines = [f"seed {self.seed} fails: {self.what}"]
        if self.simplest:
            lines.append(f"the simplest life that fails (of {self.tries} tried):")
            lines.extend(f"  {line}" for line in self.simplest)
            if self.simplest_what != self.what:
                lines.append(f"there: {self.simplest_what}")
            lines.append("its last events:")
            lines.extend(f"  {event}" for event in self.last)
        lines.extend([f"trace {self.trace}", f"replay: {replay}"])
        return "\n".join(lines)


@dataclass(slots=True)
class Simulation:
    """The sum of many seeds. `crashed` counts the crashes at each point, `reached` how often processes came there."""

    job: str
    first: int = 0
    seeds: int = 0
    processes: int = 0
    refused: int = 0
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict[str, int])
    sampled: list[str] = field(default_factory=list[str])
    """The sources with more records than those taken."""
    crashed: Counter[str] = field(default_factory=Counter[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    failures: list[Failure] = field(default_factory=list[Failure])
    digest: str = ""
    """The trace's digest, if there was one seed."""

    def add(self, outcome: Outcome) -> None:
        """Counts one seed."""
        self.seeds += 1
        self.processes += outcome.processes
        self.refused += outcome.refused
        self.crashed.update(outcome.crashed)
        self.reached.update(outcome.reached)
        self.digest = outcome.digest

    def merge(self, other: Simulation) -> None:
        """Adds the counts of another simulation."""
        self.seeds += other.seeds
        self.processes += other.processes
        self.refused += other.refused
        self.crashed.update(other.crashed)
        self.reached.update(other.reached)
        self.failures.extend(other.failures)
        self.rows, self.sampled = other.rows or self.rows, other.sampled or self.sampled
        self.digest = other.digest

    @property
    def never_crashed_at(self) -> list[str]:
        """The points that were reached and that no crash has hit."""
        return sorted(point for point in self.reached if not self.crashed[point])

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "job": self.job,
            "first": self.first,
            "seeds": self.seeds,
            "processes": self.processes,
            "refused": self.refused,
            "seconds": round(self.seconds, 3),
            "rows": self.rows,
            "sampled": self.sampled,
            "crashed": dict(sorted(self.crashed.items())),
            "reached": dict(sorted(self.reached.items())),
            "never_crashed_at": self.never_crashed_at,
            "trace": self.digest if self.seeds == 1 else None,
            "failures": [asdict(failure) for failure in self.failures],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Simulation:
        """The report made of plain values."""
        names = ("job", "first", "seeds", "processes", "refused", "seconds", "rows", "sampled")
        return cls(
            **{name: plain[name] for name in names},
            crashed=Counter(plain["crashed"]),
            reached=Counter(plain["reached"]),
            failures=msgspec.convert(plain["failures"], list[Failure]),
            digest=plain["trace"] or "",
        )

    def text(self) -> str:
        """The summary for people: the seeds that were run, and the hits of each crash point."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        crashes = sum(self.crashed.values())
        rate = f", {self.seeds / self.seconds:.0f} a second" if self.seconds else ""
        yield (
            f"{self.job}: {self.seeds} seed{'s' if self.seeds != 1 else ''}{rate}: {self.processes} processes, "
            f"{crashes} crashes, {len(self.failures)} failure{'s' if len(self.failures) != 1 else ''}"
        )
        for id, count in self.rows.items():
            first = "the first " if id in self.sampled else ""
            yield f"  {id}: {first}{count} records"
        if self.refused:
            yield f"  {self.refused} times a rotten checkpoint was refused, clearly"
        width = max(map(len, self.reached), default=0)
        for point in sorted(self.reached, key=lambda each: (each in (ANY_CALL, ANY_STEP), each)):
            yield f"  {point:<{width}}  {self.crashed[point]:>7} crashes of {self.reached[point]:>9} times there"
        for mishap in sorted(each for each in self.crashed if each not in self.reached):
            yield f"  {mishap}: {self.crashed[mishap]} times"
        if self.seeds == 1:
            yield f"trace {self.digest}"
