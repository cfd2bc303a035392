"""Makes a failing schedule simpler as long as it still fails: fewer crashes, faults, records, subtasks.

Greedy, as QuickCheck does it: the first simpler schedule that fails takes the place of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from streamflow.testing.simulation.run import Outcome
from streamflow.testing.simulation.schedule import Incarnation, Schedule

__all__ = ["shrink"]


def shrink(
    failing: Outcome,
    run: Callable[[Schedule], Outcome],
    sizes: Mapping[str, int],
    *,
    tries: int = 200,
) -> tuple[Outcome, int]:
    """The simplest failing outcome found, and the number of schedules tried. `sizes` counts the records of each
    source."""
    tried = 0
    improved = True
    while improved:
        improved = False
        for candidate in _simpler(failing.schedule, sizes):
            if tried >= tries:
                return failing, tried
            tried += 1
            outcome = run(candidate)
            if outcome.failure is not None:
                failing, improved = outcome, True
                break
    return failing, tried


def _simpler(schedule: Schedule, sizes: Mapping[str, int]) -> Iterator[Schedule]:
    """Simpler schedules, the greatest steps first."""
    lives = schedule.incarnations
    if len(lives) > 1:
        for gone in range(len(lives)):
            yield replace(schedule, incarnations=lives[:gone] + lives[gone + 1 :])
    for number, life in enumerate(lives):
        for calmer in _calmer(life):
            yield replace(schedule, incarnations=(*lives[:number], calmer, *lives[number + 1 :]))
    yield from _fewer_workers(schedule)
    yield from _fewer_rows(schedule, sizes)
    if schedule.mode != "streaming":
        yield replace(schedule, mode="streaming")
    if schedule.quiet:
        yield replace(schedule, quiet=0.0)
    if schedule.restarts:
        yield replace(schedule, restarts=False)
    if schedule.stalls:
        yield replace(schedule, stalls=0.0)
    if schedule.splits > 1:
        yield replace(schedule, splits=schedule.splits - 1)
    widest = max(life.parallelism for life in lives)
    if widest > 1:
        yield replace(schedule, incarnations=tuple(replace(life, parallelism=1) for life in lives))
        yield replace(
            schedule,
            incarnations=tuple(
                replace(life, parallelism=min(life.parallelism, widest - 1)) for life in lives
            ),
        )


def _fewer_workers(schedule: Schedule) -> Iterator[Schedule]:
    if schedule.workers:
        yield replace(schedule, workers=0)
    if schedule.workers > 1:
        yield replace(schedule, workers=schedule.workers - 1)
    if schedule.remote:
        yield replace(schedule, remote=False)


def _calmer(life: Incarnation) -> Iterator[Incarnation]:
    if life.rot is not None:
        yield replace(life, rot=None)
    if life.clock_jump:
        yield replace(life, clock_jump=0)
    for gone in range(len(life.interventions)):
        yield replace(life, interventions=life.interventions[:gone] + life.interventions[gone + 1 :])
    for gone in range(len(life.mishaps)):
        yield replace(life, mishaps=life.mishaps[:gone] + life.mishaps[gone + 1 :])
    for gone in range(len(life.faults)):
        yield replace(life, faults=life.faults[:gone] + life.faults[gone + 1 :])
    if life.crash is not None:
        yield replace(life, crash=None)
        if life.crash.loss == "power":
            yield replace(life, crash=replace(life.crash, loss="kill"))


def _fewer_rows(schedule: Schedule, sizes: Mapping[str, int]) -> Iterator[Schedule]:
    for id, size in sizes.items():
        rows = schedule.rows.get(id, tuple(range(size)))
        for part in _parts(rows):
            yield replace(schedule, rows={**schedule.rows, id: part})


def _parts(rows: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Smaller sets of rows: without one half, one quarter, one eighth of them; of a few, without each."""
    pieces = 2
    while pieces <= 8 and pieces <= len(rows):
        size = -(-len(rows) // pieces)
        for start in range(0, len(rows), size):
            rest = (*rows[:start], *rows[start + size :])
            if rest:
                yield rest
        pieces *= 2
