"""The matching of one key: its partial matches through events and time. No I/O.

Between two events time goes on without leaps: a partial match whose time is over goes at its own moment, whichever
watermark passed it, so that results do not depend on how events are cut into batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from streamflow.operators.patterns.after_match import AfterMatch, released
from streamflow.operators.patterns.automaton import Automaton, Holds, Partial, Path, stepped
from streamflow.time.timestamps import MAX_TIME

__all__ = ["Event", "KeyMatching", "KeyState", "Moment"]

Event: TypeAlias = tuple[int, int]
"""(number, event time in microseconds); numbers ascend with the order of events."""
Moment: TypeAlias = tuple[int, Path]
"""(event time at which it was decided, path)."""
_WITHOUT_STAGE: Final = 4
"""The number of values behind the stages in a state from before there were groups: a step was one stage. The time of
the last event came later still, and counts for patterns that have a time between two events."""


class KeyState(NamedTuple):
    """The partial matches of a key, the matches that are held back, and the number of its next event."""

    partials: list[Partial]
    held: list[Path]
    next_event: int = 0

    def packed(self) -> tuple[list[Any], list[int]]:
        """The state as plain values for msgpack, and the numbers of the events in it, ascending."""
        paths = _Packing()
        partials = [
            [start, *paths.add(path), list(waits), *rest] for start, path, waits, *rest in self.partials
        ]
        held = [[*paths.add(path)] for path in self.held]
        return [partials, held, self.next_event], sorted(paths.events)

    @staticmethod
    def unpacked(values: Any) -> KeyState:
        """The state from the values of `packed`."""
        packed, packed_held, next_event = values
        path: Path = ()
        partials: list[Partial] = []
        for start, head, tail, between, waits, *rest in packed:
            path = _unpacked(path, head, tail, between)
            if len(rest) == _WITHOUT_STAGE:
                rest.append(path[-1][0])
            partials.append(Partial(start, path, tuple(waits), *rest))
        held: list[Path] = []
        for head, tail, between in packed_held:
            path = _unpacked(path, head, tail, between)
            held.append(path)
        return KeyState(partials, held, next_event)


class _Packing:
    """Packs paths by the differences between one and the next: those of a repetition are mostly the same."""

    def __init__(self) -> None:
        self.events: set[int] = set()
        self._before: Path = ()

    def add(self, path: Path) -> tuple[int, int, list[int]]:
        """(how many events at its head and how many at its tail are those of the path before, the others)."""
        before, self._before = self._before, path
        head = tail = 0
        if before:
            most = min(len(before), len(path))
            head = _most(most, lambda count: before[:count] == path[:count])
            ends = len(before), len(path)
            tail = _most(most - head, lambda count: before[ends[0] - count :] == path[ends[1] - count :])
        between = path[head : len(path) - tail]
        self.events.update(event for _, event in between)
        return head, tail, [number for taken in between for number in taken]


def _most(most: int, alike: Callable[[int], bool]) -> int:
    """The largest count up to `most` for which two paths are alike, which they are for any smaller one."""
    if alike(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if alike(middle) else (low, middle)
    return low


def _unpacked(before: Path, head: int, tail: int, between: list[int]) -> Path:
    middle = tuple(zip(between[::2], between[1::2], strict=True))
    return before[:head] + middle + before[len(before) - tail :]


class KeyMatching:
    """The matching of keys, one after the other; `matches` and `timed_out` collect what they give."""

    __slots__ = ("_after_match", "_automaton", "matches", "timed_out")

    def __init__(self, automaton: Automaton, after_match: AfterMatch) -> None:
        self._automaton = automaton
        self._after_match = after_match
        self.matches: list[Moment] = []
        self.timed_out: list[Moment] = []

    def through(
        self, state: KeyState, events: Iterable[Event], holds: Callable[[int], Holds], watermark: int
    ) -> KeyState:
        """The state of a key behind events, which are in order, and then a watermark.

        `holds` gives the conditions of an event, by its number.
        """
        partials, held = state.partials, state.held
        last = state.next_event - 1
        for number, time in events:
            if partials:
                partials, held = self._expired(partials, held, time - 1)
            partials, matches = stepped(self._automaton, partials, number, time, holds(number))
            if matches or held:
                partials, held = self._release(partials, held, matches, time)
            last = number
        if partials:
            partials, held = self._expired(partials, held, watermark)
        return KeyState(partials, held, last + 1)

    def end(self, state: KeyState, last: int) -> None:
        """Ends the input: no partial match can become one, so matches that wait for one go out. `last` is the time of
        the last event."""
        self._release([], state.held, [], last)

    def _expired(
        self, partials: list[Partial], held: list[Path], watermark: int
    ) -> tuple[list[Partial], list[Path]]:
        """Takes out the partial matches whose time is over at a watermark, those that began first before others."""
        automaton = self._automaton
        within = automaton.within
        if automaton.shortest is not None:
            return self._expired_between(partials, held, watermark, automaton.shortest)
        if within is None:
            return partials, held
        # They stand in the order in which they began.
        while partials and (over := partials[0].start + within - 1) <= watermark:
            first = partials[0].start
            due = [partial for partial in partials if partial.start == first]
            partials, held = self._over(partials[len(due) :], due, held, over)
        return partials, held

    def _expired_between(
        self, partials: list[Partial], held: list[Path], watermark: int, shortest: int
    ) -> tuple[list[Partial], list[Path]]:
        """The same where partial matches have moments of their own, at which some of what they wait for is over."""
        automaton = self._automaton
        whole = MAX_TIME if automaton.within is None else automaton.within
        # There may be many, of which few have a moment now: the rest is passed over by the two differences.
        some = [each for each in partials if watermark - each.last >= shortest - 1]
        moments = {moment for each in some for moment in each.moments(automaton)}
        first = itertools.takewhile(lambda each: watermark - each.start >= whole - 1, partials)
        moments.update(each.start + whole - 1 for each in first)
        for over in sorted(moment for moment in moments if moment <= watermark):
            left: list[Partial] = []
            due: list[Partial] = []
            for partial in partials:
                if over - partial.last < shortest - 1 and over - partial.start < whole - 1:
                    left.append(partial)
                    continue
                after = partial.left_at(automaton, over)
                if after is not None:
                    left.append(after)
                if after is None or (partial.awaits and not after.awaits):
                    due.append(partial)
            partials, held = self._over(left, due, held, over) if due else (left, held)
        return partials, held

    def _over(
        self, partials: list[Partial], due: list[Partial], held: list[Path], over: int
    ) -> tuple[list[Partial], list[Path]]:
        """Decides about partial matches at their moment; `partials` are those that are left."""
        matches = [partial.path for partial in due if partial.awaits]
        missed = [partial.path for partial in due if not partial.awaits and not partial.matched]
        if self._automaton.ambiguous:
            waiting = {partial.path for partial in partials}
            matches = [*dict.fromkeys(matches)]
            missed = [path for path in dict.fromkeys(missed) if path not in waiting]
        self.timed_out += [(over, path) for path in missed]
        if matches or held:
            partials, held = self._release(partials, held, matches, over)
        return partials, held

    def _release(
        self, partials: list[Partial], held: list[Path], new: list[Path], time: int
    ) -> tuple[list[Partial], list[Path]]:
        out, partials, held = released(self._after_match, self._automaton, partials, held, new)
        self.matches += [(time, path) for path in out]
        return partials, held
