"""The next result that an operator holds back until the watermark comes, for people who ask why it has not come."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Waiting", "earliest"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result that waits: `what` it is, the watermark `until` that lets it go (microseconds; MAX_TIME: the end of the
    input), and the number of `rows` that the operator holds for this and all later ones.

    >>> Waiting("a timer", 60_000_000, 3).until
    60000000
    """

    what: str
    until: int
    rows: int


def earliest(*waiting: Waiting | None) -> Waiting | None:
    """The one that goes first, with the rows of all; None for none.

    >>> earliest(Waiting("a", 9, 1), None, Waiting("b", 5, 2))
    Waiting(what='b', until=5, rows=3)
    """
    known = [each for each in waiting if each is not None]
    if not known:
        return None
    first = min(known, key=lambda each: each.until)
    return Waiting(first.what, first.until, sum(each.rows for each in known))
