"""The next results that an operator holds back until the watermark, a processing time or an answer from outside the job
comes, for people who ask why they have not come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from streamflow.time.timestamps import MAX_TIME, format_time

__all__ = ["LOOKED_UP", "Waiting", "earliest", "session_that_ends", "the_window"]

LOOKED_UP: Final = 16
"""The number of stored rows that are looked up for people who ask, of which some may not wait any more: they are told
the time by which none of so many comes."""
_LONG: Final = 1_000_000
"""The microseconds after which a step that each batch or barrier takes is worth a word."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result that waits: `what` it is, the watermark `until` that lets it go (microseconds; MAX_TIME: the end of the
    input), and the number of `rows` that the operator holds for this and all later ones. `by_clock`: `until` is a
    processing time. `since`: the processing time since which it is under way; nothing is known of its end (`until` is
    MAX_TIME).

    >>> Waiting("a timer", 60_000_000, 3).until
    60000000
    """

    what: str
    until: int
    rows: int
    by_clock: bool = False
    since: int | None = None

    @staticmethod
    def under_way(what: str, since: int, rows: int) -> Waiting:
        """Something whose end the job does not decide."""
        return Waiting(what, MAX_TIME, rows, since=since)

    def is_long(self, now: int) -> bool:
        """Whether it has been under way for long by a time of the clock."""
        return self.since is not None and now - self.since >= _LONG


def earliest(*waiting: Waiting | None) -> tuple[Waiting, ...]:
    """The one that goes first, with the rows of all: one for the watermark, one for the clock and one of those under
    way, as far as there are any.

    >>> earliest(Waiting("a", 9, 1), None, Waiting("b", 5, 2))
    (Waiting(what='b', until=5, rows=3, by_clock=False, since=None),)
    """
    found: list[Waiting] = []
    for by_clock, under_way in ((False, False), (True, False), (False, True)):
        kind = (by_clock, under_way)
        known = [
            each for each in waiting if each is not None and (each.by_clock, each.since is not None) == kind
        ]
        if known:
            first = min(known, key=lambda each: (each.until, each.since or 0))
            found.append(replace(first, rows=sum(each.rows for each in known)))
    return tuple(found)


def the_window(start: int, end: int) -> str:
    """A window in words, by its bounds in microseconds.

    >>> the_window(0, 60_000_000)
    'the window from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z'
    """
    return f"the window from {format_time(start)} to {format_time(end)}"


def session_that_ends(end: int) -> str:
    """A session in words, by the end that it has so far.

    >>> session_that_ends(60_000_000)
    'a session that ends at 1970-01-01T00:01:00Z, if nothing continues it'
    """
    return f"a session that ends at {format_time(end)}, if nothing continues it"
