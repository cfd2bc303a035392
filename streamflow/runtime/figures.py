"""The figures of workers that a job's reports are made of: watermarks, the splits that hold them back, and the results
that operators hold back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from streamflow.operators.contract.waiting import Waiting, earliest
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Figures", "Held", "PacedFigures", "SourceFigures", "earliest_by_operator", "merged"]

_SPARED: Final = 50
"""The time between two looks at what operators hold back, in times that a look takes: looking takes 2 % at most."""

Held = tuple[tuple[str, Waiting], ...]
"""The next results that the operators of a task hold back, each with its operator's id."""


class SourceFigures(msgspec.Struct, frozen=True):
    """The figures of one subtask of a source. `held_back_by`: the split that holds its watermark back, if any;
    `held_back_at`: that split's watermark; `furthest`: the event time of the split that is furthest."""

    subtask: int
    held_back_by: str | None
    held_back_at: int
    watermark: int
    furthest: int


class Figures(msgspec.Struct, frozen=True):
    """The figures of one worker or of several. `watermark`: the smallest one of all subtasks; those without event time
    count where no other has any. By task: the smallest watermark of its subtasks, the figures of a source's subtasks,
    and the results that operators hold back, if they were asked for. Times are microseconds."""

    watermark: int = MIN_TIME
    watermarks: Mapping[str, int] = {}
    sources: Mapping[str, tuple[SourceFigures, ...]] = {}
    holds: Mapping[str, Held] = {}


def merged(figures: Sequence[Figures]) -> Figures:
    """The figures of all workers together.

    >>> one = Figures(7, {"read": 7}, {"read": (SourceFigures(0, "a", 7, 7, 9),)})
    >>> other = Figures(5, {"read": 5}, {"read": (SourceFigures(1, "b", 5, 5, 5),)})
    >>> both = merged([other, one])
    >>> both.watermark, both.watermarks, [each.held_back_by for each in both.sources["read"]]
    (5, {'read': 5}, ['a', 'b'])
    """
    if not figures:
        return Figures()
    marks: dict[str, int] = {}
    sources: dict[str, list[SourceFigures]] = {}
    holds: dict[str, list[tuple[str, Waiting]]] = {}
    for each in figures:
        for task, mark in each.watermarks.items():
            marks[task] = min(mark, marks.get(task, mark))
        for task, subtasks in each.sources.items():
            sources.setdefault(task, []).extend(subtasks)
        for task, held in each.holds.items():
            holds.setdefault(task, []).extend(held)
    return Figures(
        min(each.watermark for each in figures),
        marks,
        {task: tuple(sorted(those, key=lambda each: each.subtask)) for task, those in sources.items()},
        {task: earliest_by_operator(held) for task, held in holds.items()},
    )


def earliest_by_operator(held: Iterable[tuple[str, Waiting]]) -> Held:
    """The results of each operator that go first, with the rows of all."""
    found: dict[str, list[Waiting]] = {}
    for id, waiting in held:
        found.setdefault(id, []).append(waiting)
    return tuple((id, each) for id, those in found.items() for each in earliest(*those))


class _Reads(Protocol):
    def __call__(self, *, holds: bool) -> Figures: ...


class PacedFigures:
    """A worker's figures for a coordinator that is told them often: each call gives them as they are, except what
    operators hold back: that is as it was at the last look, so that looking takes 2 % of the time at most."""

    def __init__(self, read: _Reads, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._look_at = clock.monotonic()
        self._held: Mapping[str, Held] = {}

    def __call__(self) -> Figures:
        began = self._clock.monotonic()
        if began < self._look_at:
            return msgspec.structs.replace(self._read(holds=False), holds=self._held)
        figures = self._read(holds=True)
        ended = self._clock.monotonic()
        self._held, self._look_at = figures.holds, ended + (ended - began) * _SPARED
        return figures
