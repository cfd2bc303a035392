"""The matching of one key: its partial matches through events and time. No I/O.

Between two events time goes on without leaps: a partial match whose time is over goes at its own moment, whichever
watermark passed it, so that results do not depend on how events are cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from streamflow.operators.patterns.after_match import AfterMatch, released
from streamflow.operators.patterns.automaton import Automaton, Holds, Partial, Path, stepped

__all__ = ["Event", "KeyMatching", "KeyState", "Moment"]

Event: TypeAlias = tuple[int, int]
"""(number, event time in microseconds); numbers ascend with the order of events."""
Moment: TypeAlias = tuple[int, Path]
"""(event time at which it was decided, path)."""


class KeyState(NamedTuple):
    """The partial matches of a key, the matches that are held back, and the number of its next event."""

    partials: list[Partial]
    held: list[Path]
    next_event: int = 0

    def packed(self) -> list[Any]:
        """The state as plain values for msgpack."""
        partials = [[start, _flat(path), list(waits), *flags] for start, path, waits, *flags in self.partials]
        return [partials, [_flat(path) for path in self.held], self.next_event]

    @staticmethod
    def unpacked(values: Any) -> KeyState:
        """The state from `packed`."""
        partials, held, next_event = values
        return KeyState(
            [Partial(start, _path(path), tuple(waits), *flags) for start, path, waits, *flags in partials],
            [_path(path) for path in held],
            next_event,
        )

    @property
    def events(self) -> set[int]:
        """The numbers of the events that it refers to."""
        paths = [*(partial.path for partial in self.partials), *self.held]
        return {event for path in paths for _, event in path}


def _flat(path: Path) -> list[int]:
    return [number for taken in path for number in taken]


def _path(flat: list[int]) -> Path:
    return tuple(zip(flat[::2], flat[1::2], strict=True))


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
        within = self._automaton.within
        if within is None:
            return partials, held
        # They stand in the order in which they began.
        while partials and (over := partials[0].start + within - 1) <= watermark:
            first = partials[0].start
            due = [partial for partial in partials if partial.start == first]
            partials = partials[len(due) :]
            self.timed_out += [(over, each.path) for each in due if not each.awaits and not each.matched]
            matches = [partial.path for partial in due if partial.awaits]
            if matches or held:
                partials, held = self._release(partials, held, matches, over)
        return partials, held

    def _release(
        self, partials: list[Partial], held: list[Path], new: list[Path], time: int
    ) -> tuple[list[Partial], list[Path]]:
        out, partials, held = released(self._after_match, self._automaton, partials, held, new)
        self.matches += [(time, path) for path in out]
        return partials, held
