"""One simulated life of a job, as data: the order of its input, its parallelism, its crashes, the faults of its
disk.

A schedule is drawn from a seed and nothing else. It can be made simpler piece by piece, which is how a failing one
is shrunk, and printed in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import DiskFault, Loss
from streamflow.testing.simulation.interventions import Intervention
from streamflow.testing.simulation.mishaps import MISHAPS, Mishap, What
from streamflow.testing.simulation.points import ANY_CALL, WRITING, CrashAt

__all__ = ["Incarnation", "Odds", "Rot", "Schedule", "draw"]

_MICROS: Final = 1_000_000
_QUIET: Final = 100.0
"""Seconds without records, much longer than any wait for a checkpoint."""


@dataclass(frozen=True, slots=True)
class Rot:
    """A flipped bit of one stored file, before the process starts; both numbers are taken modulo the existing ones."""

    file: int
    bit: int

    def __str__(self) -> str:
        return "one bit of a stored checkpoint has turned over"


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One process of the job's life: its parallelism, its end (None: by itself), the faults of its disk."""

    parallelism: int
    crash: CrashAt | None = None
    faults: tuple[DiskFault, ...] = ()
    rot: Rot | None = None
    clock_jump: int = 0
    """Microseconds by which the wall clock is wrong."""
    interventions: tuple[Intervention, ...] = ()
    mishaps: tuple[Mishap, ...] = ()

    def __str__(self) -> str:
        parts = [f"parallelism {self.parallelism}"]
        if self.rot is not None:
            parts.append(str(self.rot))
        if self.clock_jump:
            parts.append(f"the wall clock is wrong by {self.clock_jump / _MICROS:+.0f} s")
        parts.extend(map(str, self.faults))
        parts.extend(map(str, self.interventions))
        parts.extend(map(str, self.mishaps))
        if self.crash is not None:
            parts.append(f"ends by {self.crash}")
        elif len(parts) == 1:
            parts.append("nothing befalls it")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The whole life. Durations are seconds of virtual time; `rows` names the records of each source that come, all
    if it names none; with `restarts` a job that fails is restarted in its process; each split is once without
    records for `quiet`. `workers` are as many processes beside that of each incarnation, their messages take
    `latency`, and where they are `remote`, none can be ended from elsewhere; 0: everything is in one process. After the
    last incarnation another one like it runs to its end."""

    seed: int
    incarnations: tuple[Incarnation, ...]
    mode: Literal["streaming", "micro-batch"] = "streaming"
    splits: int = 1
    batch_rows: int = 8
    interval: float = 0.05
    pace: float = 0.01
    blocking: float = 0.002
    stalls: float = 0.0
    restarts: bool = False
    quiet: float = 0.0
    workers: int = 0
    latency: float = 0.0
    remote: bool = False
    rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    def words(self) -> list[str]:
        """The schedule in words, a line for each fact that matters."""
        splits = f"{self.splits} split{'s' if self.splits > 1 else ''} per source"
        pace = f"batches of up to {self.batch_rows} rows, a checkpoint every {self.interval * 1000:.0f} ms"
        pace += f", {self.stalls:.0%} of steps are held up" if self.stalls else ""
        pace += ", restarts in its process" if self.restarts else ""
        pace += f", each split is once quiet for {self.quiet:.0f} s" if self.quiet else ""
        lines = [f"{self.mode} mode, {splits}, {pace}"]
        if self.workers:
            apart = " on machines of their own" if self.remote else ""
            lines.append(f"{self.workers} workers{apart}, messages take {self.latency * 1000:g} ms")
        if self.rows:
            lines.extend(f"only these records of {id}: {_listed(rows)}" for id, rows in self.rows.items())
        for number, each in enumerate(self.incarnations, 1):
            lines.append(f"process {number}: {each}")
        last = self.incarnations[-1]
        if last.crash is not None or last.faults or last.interventions or last.mishaps:
            after = Incarnation(self.incarnations[-1].parallelism)
            lines.append(f"process {len(self.incarnations) + 1}: {after}")
        return lines

    def at(self, number: int) -> Incarnation:
        """The incarnation of that number, from 0; those after the last run undisturbed."""
        if number < len(self.incarnations):
            return self.incarnations[number]
        return Incarnation(self.incarnations[-1].parallelism)


@dataclass(frozen=True, slots=True)
class Odds:
    """The odds that schedules are drawn from: the crash points of a job with the number of times that an undisturbed
    run reaches each, and the probabilities of disturbances, per process."""

    points: Mapping[str, int]
    most_parallel: int = 4
    splits: int = 3
    crashes: float = 0.75
    faults: float = 0.15
    rot: float = 0.04
    clock_jumps: float = 0.1
    micro_batch: float = 0.2
    checkpoints: float = 0.3
    stops: float = 0.15
    vanishing: float = 0.03
    rescales: float = 0.1
    quiet: float = 0.25
    workers: int = 0
    """Processes beside the coordinator's: a schedule has from 1 to so many. 0: everything is in one process."""
    mishaps: float = 0.6
    remote: float = 0.4
    befalls: tuple[What, ...] = MISHAPS
    """The kinds of mishaps."""
    lasts: tuple[float, ...] = (0.05, 0.5, 4.0, 8.0)
    """The seconds that they last. A worker that says nothing for 3 s is given up."""


def draw(seed: int, odds: Odds) -> Schedule:
    """The schedule of a seed.

    >>> odds = Odds(points={"commit.before": 3, "any step": 900})
    >>> draw(4711, odds) == draw(4711, odds) != draw(4712, odds)
    True
    """
    chance = Chance(f"schedule/{seed}")
    meddling, harm = chance.split("interventions"), chance.split("mishaps")
    changing = chance.split("rescales")
    incarnations: list[Incarnation] = []
    fixed = chance.between(1, odds.most_parallel) if chance.happens(0.4) else None
    while len(incarnations) < 4 and (not incarnations or chance.happens(odds.crashes)):
        incarnations.append(
            Incarnation(
                fixed or chance.between(1, odds.most_parallel),
                crash=_crash(chance, odds, later=bool(incarnations)),
                faults=tuple(_faults(chance, odds)),
                rot=Rot(chance.below(1 << 16), chance.below(1 << 20))
                if incarnations and chance.happens(odds.rot)
                else None,
                clock_jump=chance.between(-3_600, 3_600) * _MICROS if chance.happens(odds.clock_jumps) else 0,
                interventions=(*_interventions(meddling, odds), *_rescales(changing, odds)),
                mishaps=tuple(_mishaps(harm, odds)),
            )
        )
    if chance.happens(0.03 if odds.crashes else 1.0):
        incarnations = [Incarnation(incarnations[0].parallelism)]
    micro_batch = chance.happens(odds.micro_batch)
    quiet = bool(odds.crashes) and meddling.happens(odds.quiet)
    return Schedule(
        seed,
        tuple(incarnations),
        mode="micro-batch" if micro_batch else "streaming",
        splits=chance.between(1, odds.splits),
        batch_rows=chance.one_of((4, 8, 12, 20)),
        # Checkpoints all through a quiet time would be many, and would wake all sleepers.
        interval=chance.one_of((0.01, 0.02, 0.04, 0.08)) if not quiet else _QUIET,
        pace=chance.one_of((0.002, 0.01, 0.02)),
        blocking=chance.one_of((0.0002, 0.002, 0.01)),
        stalls=chance.one_of((0.0, 0.01, 0.03, 0.1)),
        restarts=chance.happens(0.3),
        quiet=_QUIET if quiet else 0.0,
        workers=harm.between(1, odds.workers) if odds.workers else 0,
        latency=harm.one_of((0.0002, 0.001, 0.01)) if odds.workers else 0.0,
        remote=bool(odds.workers) and harm.happens(odds.remote),
    )


def _listed(rows: Sequence[int]) -> str:
    """Numbers, runs of them as first–last."""
    parts: list[list[int]] = []
    for row in rows:
        if parts and parts[-1][-1] == row - 1:
            parts[-1][1:] = [row]
        else:
            parts.append([row])
    return ", ".join("–".join(map(str, part)) for part in parts)


def _crash(chance: Chance, odds: Odds, *, later: bool) -> CrashAt:
    names: Sequence[str] = sorted(odds.points)
    point = chance.one_of(names)
    # Early rather than late: a process that continues from a checkpoint has less to do than the undisturbed run had.
    most = odds.points[point] * (0.5 if later else 0.9)
    time = 1 + int(most * chance.random() ** 2)
    loss: Loss = "power" if chance.happens(0.6) else "kill"
    return CrashAt(point, time, loss)


def _interventions(chance: Chance, odds: Odds) -> Iterator[Intervention]:
    """The interventions: often a checkpoint, now and then a stop; rarely the checkpoints vanish."""
    kinds: tuple[tuple[Literal["checkpoint", "stop", "vanish"], float], ...] = (
        ("checkpoint", odds.checkpoints),
        ("checkpoint", odds.checkpoints),
        ("stop", odds.stops),
        ("vanish", odds.vanishing),
    )
    for what, probability in kinds:
        if chance.happens(probability):
            # Half of them while output is written: a request at that moment must not be forgotten.
            often = [WRITING] if WRITING in odds.points and chance.happens(0.5) else sorted(odds.points)
            point = chance.one_of(often)
            yield Intervention(what, point, 1 + int(odds.points[point] * chance.random()))


def _rescales(chance: Chance, odds: Odds) -> Iterator[Intervention]:
    """Changes of parallelism, at times two: the second may come before the first is made."""
    while odds.points and chance.happens(odds.rescales):
        point = chance.one_of(sorted(odds.points))
        yield Intervention("rescale", point, 1 + int(odds.points[point] * chance.random()))


def _mishaps(chance: Chance, odds: Odds) -> Iterator[Mishap]:
    """The mishaps of workers; often more than one, for what is done about the first may be met by the second."""
    while odds.workers and odds.points and chance.happens(odds.mishaps):
        point = chance.one_of(sorted(odds.points))
        time = 1 + int(odds.points[point] * chance.random() ** 2)
        what = chance.one_of(odds.befalls)
        seconds = 0.0 if what in ("killed", "lost") else chance.one_of(odds.lasts)
        yield Mishap(what, chance.below(odds.workers), point, time, seconds)


def _faults(chance: Chance, odds: Odds) -> Iterator[DiskFault]:
    if chance.happens(odds.faults):
        calls = max(10, odds.points.get(ANY_CALL, 0))
        match chance.below(3):
            case 0:
                yield DiskFault("full", chance.between(1, calls // 2), chance.one_of((1, 5, 20)))
            case 1:
                yield DiskFault("broken", chance.between(1, calls))
            case _:
                yield DiskFault("sync", chance.between(1, calls // 3 + 1))
