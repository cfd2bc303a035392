"""Patterns by their definition, in plain Python: every sequence of events is tried, and kept if each of its events may
follow the ones before it.

The model shares nothing with the engine: it knows no automaton and no partial matches, and asks of a beginning and a
later event whether all that lies between them may lie there. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.properties.job_model import Event

Taken = tuple[tuple[int, int], ...]
"""(step, position of the event) for each event of a sequence."""
When = tuple[int, int]
"""(time, position of the event at that time with which it was certain, or BEHIND all of them)."""
BEHIND = 1_000_000
Fits = Callable[[Event, dict[str, list[Event]]], bool]
"""(event, the events that each step has taken so far) → whether a condition is true."""


@dataclass(frozen=True)
class Wanted:
    """A step that takes events, and the absences right behind it."""

    name: str
    fits: Fits
    follows: Literal["next", "then", "then_any"] = "then"
    inner: Literal["next", "then", "then_any"] = "then"
    least: int = 1
    most: int | None = 1
    optional: bool = False
    greedy: bool = False
    until: Fits | None = None
    not_then: tuple[Fits, ...] = ()
    not_next: Fits | None = None


class Result(NamedTuple):
    """A match or a timed-out beginning: the moment at which that was certain, and the events by step."""

    time: int
    events: tuple[tuple[str, tuple[Event, ...]], ...]
    start: int
    end: int


class Model:
    """The results for the events of one key, in their order; `end`: no further event comes."""

    def __init__(self, steps: Sequence[Wanted], within: int | None, events: Sequence[Event]) -> None:
        self._steps, self._within, self._events = steps, within, events

    def sequences(self) -> Iterator[Taken]:
        """All beginnings that are possible, one event at least."""
        yield from self._extended(())

    def _extended(self, taken: Taken) -> Iterator[Taken]:
        for at in range(taken[-1][1] + 1 if taken else 0, len(self._events)):
            for step in self._next_steps(taken):
                if self._may_take(taken, step, at):
                    longer = (*taken, (step, at))
                    yield longer
                    yield from self._extended(longer)

    def _count(self, taken: Taken) -> int:
        return sum(step == taken[-1][0] for step, _ in taken)

    def _enough(self, taken: Taken) -> bool:
        return not taken or self._count(taken) >= self._steps[taken[-1][0]].least

    def _next_steps(self, taken: Taken) -> list[int]:
        """The steps that may take the next event."""
        last = taken[-1][0] if taken else -1
        steps: list[int] = []
        if taken:
            most = self._steps[last].most
            if most is None or self._count(taken) < most:
                steps.append(last)
        if self._enough(taken):
            for step in range(last + 1, len(self._steps)):
                steps.append(step)
                if not self._steps[step].optional:
                    break
        return steps

    def _is(self, fits: Fits, taken: Taken, at: int) -> bool:
        by_step: dict[str, list[Event]] = {step.name: [] for step in self._steps}
        for step, event in taken:
            by_step[self._steps[step].name].append(self._events[event])
        return fits(self._events[at], by_step)

    def _in_time(self, taken: Taken, at: int) -> bool:
        first = taken[0][1] if taken else at
        return self._within is None or self._events[at].ts - self._events[first].ts < self._within

    def _takes(self, taken: Taken, step: int, at: int) -> bool:
        wanted = self._steps[step]
        stopped = wanted.until is not None and self._is(wanted.until, taken, at)
        return self._is(wanted.fits, taken, at) and not stopped

    def _broken(self, taken: Taken, at: int) -> bool:
        """Whether an event that had to be absent is there, at a position behind all that is taken."""
        if not taken:
            return False
        last = self._steps[taken[-1][0]]
        if any(self._is(fits, taken, at) for fits in last.not_then):
            return True
        right_behind = at == taken[-1][1] + 1
        return (
            right_behind
            and last.not_next is not None
            and self._enough(taken)
            and self._is(last.not_next, taken, at)
        )

    def _waits_through(self, taken: Taken, step: int, at: int) -> bool:
        """Whether a beginning that waits for an event of a step still does behind the event at a position."""
        wanted = self._steps[step]
        again = bool(taken) and taken[-1][0] == step
        contiguity = wanted.inner if again else wanted.follows
        stopped = again and wanted.until is not None and self._is(wanted.until, taken, at)
        if stopped or contiguity == "next":
            return False
        return contiguity == "then_any" or not self._is(wanted.fits, taken, at)

    def _waits(self, taken: Taken, step: int, at: int) -> bool:
        """Whether a beginning waits for an event of a step when the event at a position comes."""
        if not taken:
            return True  # a sequence may begin with any event
        between = range(taken[-1][1] + 1, at)
        return all(
            self._waits_through(taken, step, each) and not self._kept_from(taken, step, each)
            for each in between
        )

    def _kept_from(self, taken: Taken, step: int, at: int) -> bool:
        """Whether a greedy step before this one takes the event at a position."""
        return any(
            self._steps[earlier].greedy
            and self._waits(taken, earlier, at)
            and self._takes(taken, earlier, at)
            for earlier in self._next_steps(taken)
            if earlier < step
        )

    def _may_take(self, taken: Taken, step: int, at: int) -> bool:
        between = range(taken[-1][1] + 1, at + 1) if taken else range(0)
        return (
            self._in_time(taken, at)
            and not any(self._broken(taken, each) for each in between)
            and self._waits(taken, step, at)
            and not self._kept_from(taken, step, at)
            and self._takes(taken, step, at)
        )

    # Results.

    def matches(self) -> list[tuple[Taken, int]]:
        """All matches, with the moment at which each was certain."""
        return [(taken, when[0]) for taken, when in self._found()]

    def _found(self) -> list[tuple[Taken, When]]:
        found = [(taken, self._certain(taken)) for taken in self.sequences()]
        return [(taken, when) for taken, when in found if when is not None]

    def _complete(self, taken: Taken) -> bool:
        last = taken[-1][0]
        return self._enough(taken) and all(step.optional for step in self._steps[last + 1 :])

    def _certain(self, taken: Taken) -> When | None:
        """The moment at which a sequence was certain to be a match; None for one that is none."""
        if not self._complete(taken):
            return None
        last = self._steps[taken[-1][0]]
        at_the_end = taken[-1][0] == len(self._steps) - 1
        if not at_the_end or (not last.not_then and last.not_next is None):
            return self._events[taken[-1][1]].ts, taken[-1][1]
        over = None if self._within is None else (self._events[taken[0][1]].ts + self._within - 1, BEHIND)
        following = [
            at
            for at in range(taken[-1][1] + 1, len(self._events))
            if over is None or self._events[at].ts <= over[0]
        ]
        if last.not_then:
            kept_from = any(
                last.greedy
                and self._waits(taken, taken[-1][0], at)
                and self._can_go_on(taken)
                and self._takes(taken, taken[-1][0], at)
                for at in following
            )
            return None if kept_from or any(self._broken(taken, at) for at in following) else over
        if following:
            at = following[0]
            return None if self._broken(taken, at) else (self._events[at].ts, at)
        return over

    def _can_go_on(self, taken: Taken) -> bool:
        return taken[-1][0] in self._next_steps(taken)

    def timed_out(self) -> list[tuple[Taken, int]]:
        """The beginnings that were no match, and still waited when their time was over, with that moment."""
        assert self._within is not None
        found: list[tuple[Taken, int]] = []
        for taken in self.sequences():
            if self._complete(taken):
                continue
            over = self._events[taken[0][1]].ts + self._within - 1
            following = [
                at for at in range(taken[-1][1] + 1, len(self._events)) if self._events[at].ts <= over
            ]
            if any(self._broken(taken, at) for at in following):
                continue
            behind = following[-1] + 1 if following else taken[-1][1] + 1
            if any(self._waits(taken, step, behind) for step in self._next_steps(taken)):
                found.append((taken, over))
        return found

    def after(self, rule: str) -> list[Taken]:
        """The matches that are left by a rule, which is applied to them in the order of their first events."""
        kind, _, name = rule.partition(":")
        found = sorted(self._found(), key=lambda each: (each[0][0][1], each[1], -len(each[0]), each[0]))
        kept, out = 0, list[Taken]()
        for taken, _ in found:
            if taken[0][1] < kept:
                continue
            out.append(taken)
            of_step = [event for step, event in taken if self._steps[step].name == name]
            if kind == "skip_past_last":
                kept = max(kept, taken[-1][1] + 1)
            elif kind == "skip_to_next":
                kept = max(kept, taken[0][1] + 1)
            elif kind != "no_skip" and of_step:
                kept = max(kept, of_step[0] if kind == "skip_to_first" else of_step[-1])
        return out

    def result(self, taken: Taken, time: int) -> Result:
        """A sequence as a result."""
        by_step = tuple(
            (wanted.name, tuple(self._events[event] for step, event in taken if step == number))
            for number, wanted in enumerate(self._steps)
        )
        return Result(time, by_step, self._events[taken[0][1]].ts, self._events[taken[-1][1]].ts)
