"""Patterns by their definition, in plain Python: every sequence of events is tried, and kept if each of its events may
follow the ones before it.

The model shares nothing with the engine: it knows no automaton and no partial matches, and asks of a beginning and a
later event whether all that lies between them may lie there. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from tests.properties.job_model import Event

Place = tuple[tuple[int, int], ...]
"""(number of a step in its sequence, repetition), from the outermost group to the step itself."""
Derived = tuple[tuple[Place, int], ...]
"""(place in the pattern, position of the event) for each event of a sequence."""
Taken = tuple[tuple[int, int], ...]
"""(step, position of the event) for each event of a sequence, whatever repetition it is in."""
When = tuple[int, int]
"""(time, position of the event at that time with which it was certain, or BEHIND all of them)."""
BEHIND = 1_000_000
Fits = Callable[[Event, dict[str, list[Event]]], bool]
"""(event, the events that each step has taken so far) → whether a condition is true."""


@dataclass(frozen=True)
class Wanted:
    """A step that takes events, or a group of `steps`, and the absences right behind it; `absent_within` is the time of
    the last one."""

    name: str
    fits: Fits | None
    follows: Literal["next", "then", "then_any"] = "then"
    inner: Literal["next", "then", "then_any"] = "then"
    least: int = 1
    most: int | None = 1
    optional: bool = False
    greedy: bool = False
    until: Fits | None = None
    not_then: tuple[Fits, ...] = ()
    not_next: Fits | None = None
    within: int | None = None
    gap: int | None = None
    absent_within: int | None = None
    steps: tuple[Wanted, ...] = ()


def single(steps: Sequence[Wanted]) -> list[Wanted]:
    """The steps with those of groups in place of the groups."""
    return [each for step in steps for each in (single(step.steps) if step.steps else [step])]


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
        self._names = [step.name for step in single(steps)]

    def sequences(self) -> Iterator[Derived]:
        """All beginnings that are possible, one event at least."""
        yield from self._extended(())

    def _extended(self, taken: Derived) -> Iterator[Derived]:
        for at in range(taken[-1][1] + 1 if taken else 0, len(self._events)):
            for place in self._next_places(taken):
                if self._may_take(taken, place, at):
                    longer = (*taken, (place, at))
                    yield longer
                    yield from self._extended(longer)

    # Places.

    def _next_places(self, taken: Derived) -> list[Place]:
        """The places of which the next event may be."""
        return self._behind(self._steps, taken[-1][0])[0] if taken else self._first(self._steps, 0)[0]

    def _first(self, steps: Sequence[Wanted], start: int) -> tuple[list[Place], bool]:
        """The places with which steps may begin, from one on; whether all may be left out."""
        places: list[Place] = []
        for number in range(start, len(steps)):
            places += self._in(steps, number, 0)
            if not steps[number].optional:
                return places, False
        return places, True

    def _in(self, steps: Sequence[Wanted], number: int, repetition: int) -> list[Place]:
        """The places with which a repetition of a step may begin."""
        inside = self._first(steps[number].steps, 0)[0] if steps[number].steps else [()]
        return [((number, repetition), *place) for place in inside]

    def _behind(self, steps: Sequence[Wanted], place: Place) -> tuple[list[Place], bool]:
        """The places that may come behind one; whether the steps may end with it."""
        number, repetition = place[0]
        inside, over = self._behind(steps[number].steps, place[1:]) if place[1:] else ([], True)
        places: list[Place] = [(place[0], *each) for each in inside]
        if not over:
            return places, False
        most = steps[number].most
        if most is None or repetition + 1 < most:
            places += self._in(steps, number, repetition + 1)
        if repetition + 1 < steps[number].least:
            return places, False
        others, ends = self._first(steps, number + 1)
        return places + others, ends

    def _levels(self, place: Place) -> list[Wanted]:
        """The groups around a place and then its step."""
        steps, levels = self._steps, list[Wanted]()
        for number, _ in place:
            levels.append(steps[number])
            steps = steps[number].steps
        return levels

    def _contiguity(self, place: Place) -> str:
        for (number, repetition), wanted in zip(reversed(place), reversed(self._levels(place)), strict=True):
            if repetition:
                return wanted.inner
            if number:
                return wanted.follows
        return "then"

    def _again(self, place: Place) -> bool:
        return place[-1][1] > 0

    # Conditions.

    def _is(self, fits: Fits | None, taken: Derived, at: int) -> bool:
        by_step: dict[str, list[Event]] = {name: [] for name in self._names}
        for place, event in taken:
            by_step[self._levels(place)[-1].name].append(self._events[event])
        assert fits is not None
        return fits(self._events[at], by_step)

    def _over(self, taken: Derived, place: Place | None) -> int | None:
        """The last moment at which an event may come at a place, or has to be absent behind all that is taken."""
        first, last = (self._events[taken[end][1]].ts for end in (0, -1))
        time = self._steps[-1].absent_within if place is None else self._time(taken[-1][0], place)
        moments = [
            since + within - 1
            for since, within in ((first, self._within), (last, time))
            if within is not None
        ]
        return min(moments, default=None)

    def _time(self, before: Place, place: Place) -> int | None:
        """The time in which an event at a place has to come behind one at the place before."""
        levels = self._levels(place)
        depth = next(
            depth for depth, (one, other) in enumerate(zip(before, place, strict=False)) if one != other
        )
        again = before[depth][0] == place[depth][0]
        times = [levels[depth].gap if again else levels[depth].within]
        times += [wanted.within for wanted in levels[depth + 1 :]]
        return min((time for time in times if time is not None), default=None)

    def _in_time(self, taken: Derived, place: Place, at: int) -> bool:
        over = self._over(taken, place) if taken else None
        return over is None or self._events[at].ts <= over

    def _ended(self, taken: Derived, place: Place, at: int) -> bool:
        """Whether a group around a place ends at an event."""
        groups = self._levels(place)[:-1]
        return any(group.until is not None and self._is(group.until, taken, at) for group in groups)

    def _takes(self, taken: Derived, place: Place, at: int) -> bool:
        wanted = self._levels(place)[-1]
        stopped = wanted.until is not None and self._is(wanted.until, taken, at)
        return self._is(wanted.fits, taken, at) and not stopped and not self._ended(taken, place, at)

    def _broken(self, taken: Derived, at: int) -> bool:
        """Whether an event that had to be absent is there, at a position behind all that is taken."""
        if not taken:
            return False
        place, right_behind = taken[-1][0], at == taken[-1][1] + 1
        for depth, wanted in enumerate(self._levels(place)):
            inside = place[depth + 1 :]
            closing = all(
                number + 1 == len(group.steps)
                for (number, _), group in zip(inside, self._levels(place)[depth:], strict=False)
            )
            if closing and any(self._is(fits, taken, at) for fits in wanted.not_then):
                return True
            enough = place[depth][1] + 1 >= wanted.least
            over = enough and (not inside or self._behind(wanted.steps, inside)[1])
            if over and right_behind and wanted.not_next is not None and self._is(wanted.not_next, taken, at):
                return True
        return False

    def _waits_through(self, taken: Derived, place: Place, at: int) -> bool:
        """Whether a beginning that waits for an event at a place still does behind the event at a position."""
        wanted, contiguity = self._levels(place)[-1], self._contiguity(place)
        stopped = self._again(place) and wanted.until is not None and self._is(wanted.until, taken, at)
        if stopped or contiguity == "next" or self._ended(taken, place, at):
            return False
        return contiguity == "then_any" or not self._is(wanted.fits, taken, at)

    def _waits(self, taken: Derived, place: Place, at: int) -> bool:
        """Whether a beginning waits for an event at a place when the event at a position comes."""
        if not taken:
            return True  # a sequence may begin with any event
        between = range(taken[-1][1] + 1, at)
        return self._in_time(taken, place, at) and all(self._goes_on(taken, place, each) for each in between)

    def _goes_on(self, taken: Derived, place: Place, at: int) -> bool:
        return self._waits_through(taken, place, at) and not self._kept_from(taken, place, at)

    def _kept_from(self, taken: Derived, place: Place, at: int) -> bool:
        """Whether a greedy step before this one takes the event at a position."""
        places = self._next_places(taken)
        return any(self._greedy(taken, earlier, at) for earlier in places[: places.index(place)])

    def _greedy(self, taken: Derived, place: Place, at: int) -> bool:
        """Whether a greedy step takes the event at a position."""
        greedy = self._levels(place)[-1].greedy
        return greedy and self._waits(taken, place, at) and self._takes(taken, place, at)

    def _may_take(self, taken: Derived, place: Place, at: int) -> bool:
        between = range(taken[-1][1] + 1, at + 1) if taken else range(0)
        return (
            not any(self._broken(taken, each) for each in between)
            and self._waits(taken, place, at)
            and not self._kept_from(taken, place, at)
            and self._takes(taken, place, at)
        )

    # Results.

    def matches(self) -> list[tuple[Taken, int]]:
        """All matches, with the moment at which each was certain."""
        return [(taken, when[0]) for taken, when in self._found()]

    def _found(self) -> list[tuple[Taken, When]]:
        found = [(self._by_step(taken), self._certain(taken)) for taken in self.sequences()]
        # One that may be divided among repetitions in several ways is there once.
        return [*dict.fromkeys((taken, when) for taken, when in found if when is not None)]

    def _by_step(self, taken: Derived) -> Taken:
        return tuple((self._names.index(self._levels(place)[-1].name), at) for place, at in taken)

    def _complete(self, taken: Derived) -> bool:
        return self._behind(self._steps, taken[-1][0])[1]

    def _certain(self, taken: Derived) -> When | None:
        """The moment at which a sequence was certain to be a match; None for one that is none."""
        if not self._complete(taken):
            return None
        last = self._steps[-1]
        if not last.not_then and last.not_next is None:
            return self._events[taken[-1][1]].ts, taken[-1][1]
        moment = self._over(taken, None)
        over = None if moment is None else (moment, BEHIND)
        following = [
            at
            for at in range(taken[-1][1] + 1, len(self._events))
            if over is None or self._events[at].ts <= over[0]
        ]
        if last.not_then:
            kept_from = any(
                self._greedy(taken, place, at) for place in self._next_places(taken) for at in following
            )
            return None if kept_from or any(self._broken(taken, at) for at in following) else over
        if following:
            at = following[0]
            return None if self._broken(taken, at) else (self._events[at].ts, at)
        return over

    def timed_out(self) -> list[tuple[Taken, int]]:
        """The beginnings that were no match, and waited until a time was over, with that moment."""
        complete = {self._by_step(taken) for taken in self.sequences() if self._complete(taken)}
        ends: dict[Taken, tuple[float, bool]] = {}
        for taken in self.sequences():
            path = self._by_step(taken)
            if path not in complete:
                found = [self._end(taken, place) for place in self._next_places(taken)]
                ends[path] = max(ends.get(path, (-inf, False)), *found)
        return [(path, int(moment)) for path, (moment, by_time) in ends.items() if by_time]

    def _end(self, taken: Derived, place: Place) -> tuple[float, bool]:
        """When a beginning stops waiting for an event at a place, and whether because a time is over."""
        over = self._over(taken, place)
        for at in range(taken[-1][1] + 1, len(self._events)):
            if over is not None and self._events[at].ts > over:
                break
            if self._broken(taken, at) or not self._goes_on(taken, place, at):
                return self._events[at].ts, False
        return (inf, False) if over is None else (over, True)

    def after(self, rule: str) -> list[Taken]:
        """The matches that are left by a rule, which is applied to them in the order of their first events."""
        kind, _, name = rule.partition(":")
        found = sorted(self._found(), key=lambda each: (each[0][0][1], each[1], -len(each[0]), each[0]))
        kept, out = 0, list[Taken]()
        for taken, _ in found:
            if taken[0][1] < kept:
                continue
            out.append(taken)
            of_step = [event for step, event in taken if self._names[step] == name]
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
            (name, tuple(self._events[event] for step, event in taken if step == number))
            for number, name in enumerate(self._names)
        )
        return Result(time, by_step, self._events[taken[0][1]].ts, self._events[taken[-1][1]].ts)
