"""Joins by their definition: nested loops over all rows, in plain Python, and what an operator is told step by step.

A row is (key, event time, value); times are microseconds. A result is the left row and the right row of a pair, with
None for a missing one; rows of one side alone (semi, anti) have None on the right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st

MAX = 2**63 - 1
HOW = ["inner", "left", "right", "outer", "semi", "anti"]
OF_LEFT = ["inner", "left", "semi", "anti"]


class Row(NamedTuple):
    """One record; `value` tells it from others."""

    key: str | None
    time: int
    value: int


Pair: TypeAlias = tuple[Row | None, Row | None]


def combined(
    left: Sequence[Row], right: Sequence[Row], how: str, match: Callable[[Row, Row], bool]
) -> Counter[Pair]:
    """The result of a join: every pair that matches, and rows alone, by the kind of the join."""
    pairs = [
        (one, other)
        for one in left
        for other in right
        if one.key == other.key is not None and match(one, other)
    ]
    of_left, of_right = {id(one) for one, _ in pairs}, {id(other) for _, other in pairs}
    result: list[Pair] = [] if how in ("semi", "anti") else list(pairs)
    if how in ("left", "outer", "anti"):
        result += [(one, None) for one in left if id(one) not in of_left]
    if how == "semi":
        result += [(one, None) for one in left if id(one) in of_left]
    if how in ("right", "outer"):
        result += [(None, other) for other in right if id(other) not in of_right]
    return Counter(result)


def as_of(left: Sequence[Row], right: Sequence[Row], how: str, tolerance: int | None) -> Counter[Pair]:
    """Each left row with the last right row of its key at its time; of two of one time, the one that came later."""
    result: list[Pair] = []
    for one in left:
        versions = [other for other in right if other.key == one.key is not None and other.time <= one.time]
        found = max(versions, key=lambda other: other.time, default=None)
        if found is not None:
            found = [other for other in versions if other.time == found.time][-1]
            found = found if tolerance is None or found.time >= one.time - tolerance else None
        if how == "left" or (how == "inner" and found is not None):
            result.append((one, found))
        elif how in ("semi", "anti") and (found is not None) == (how == "semi"):
            result.append((one, None))
    return Counter(result)


def in_sessions(rows: Iterable[tuple[int, Row]], gap: int) -> list[list[tuple[int, Row]]]:
    """Rows of both sides, (input, row), divided into the sessions of their keys; one with a null key is a
    session by itself."""
    found: list[list[tuple[int, Row]]] = []
    for port, row in sorted(rows, key=lambda each: (each[1].key or "", each[1].time)):
        last = found[-1][-1][1] if found else None
        if last is not None and last.key == row.key is not None and row.time - last.time < gap:
            found[-1].append((port, row))
        else:
            found.append([(port, row)])
    return found


def joined_in_sessions(
    sessions: Iterable[list[tuple[int, Row]]], how: str, gap: int, before: int = 0
) -> Counter[tuple[Pair, int, int]]:
    """The result of a join of each of these sessions, with its bounds; these are `before` the usual ones."""
    result: Counter[tuple[Pair, int, int]] = Counter()
    for session in sessions:
        left, right = ([row for port, row in session if port == side] for side in (0, 1))
        start, end = session[0][1].time - before, session[-1][1].time + gap - before
        for pair, times in combined(left, right, how, lambda _l, _r: True).items():
            result[pair, start, end] += times
    return result


def rows(*, span: int = 25, most: int = 6) -> st.SearchStrategy[list[Row]]:
    """Rows of a few keys, null among them, close to each other in time."""
    row = st.builds(
        Row, st.sampled_from(["a", "a", "b", None]), st.integers(-span, span), st.integers(0, 999)
    )
    return st.lists(row, max_size=most)


@dataclass(frozen=True)
class Push:
    """Rows arrive on an input."""

    port: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Watermark:
    """Event time moves on one input, by `by`."""

    port: int
    by: int


@dataclass(frozen=True)
class Restore:
    """The operator goes on from a snapshot, at this parallelism."""

    parallelism: int


Step = Push | Watermark | Restore


def steps() -> st.SearchStrategy[list[Step]]:
    """Scripts for an operator with two inputs."""
    port = st.integers(0, 1)
    push = st.builds(Push, port, rows().map(tuple))
    step = st.one_of(
        push, push, st.builds(Watermark, port, st.integers(1, 20)), st.builds(Restore, st.integers(1, 3))
    )
    return st.lists(step, max_size=12)


def session_join(
    script: Sequence[Step], how: str, gap: int, before: int
) -> tuple[Counter[tuple[Pair, int, int]], int]:
    """The result of a join over session windows under a script, with windows' bounds, and the number of late rows:
    those whose session, with all that is there and comes with them, is over. Sessions begin
    `before` their first row, and end as much earlier."""
    told, late = [-30, -30], 0
    open_: list[list[tuple[int, Row]]] = []
    closed: list[list[tuple[int, Row]]] = []
    for step in script:
        pushed: list[tuple[int, Row]] = []
        match step:
            case Push(port, rows):
                pushed = [(port, row) for row in rows]
            case Watermark(port, by):
                told[port] += by
            case Restore():
                pass
        sessions = in_sessions([*(each for session in open_ for each in session), *pushed], gap)
        over = [session for session in sessions if session[-1][1].time + gap - before - 1 <= min(told)]
        open_ = [session for session in sessions if session not in over]
        if pushed:
            late += sum(map(len, over))
        else:
            closed += over
    return joined_in_sessions([*closed, *open_], how, gap, before), late


def row_of(record: dict[str, Any], *, right: bool = False) -> Row | None:
    """One side of a result's record; None if it is missing."""
    value = record.get("value_right" if right else "value")
    if value is None:
        return None
    return Row(record["key"], record["time_right" if right else "time"], value)


def pairs_of(records: Iterable[dict[str, Any]]) -> Counter[Pair]:
    """The pairs of a result's records; changes are applied."""
    found: Counter[Pair] = Counter()
    for record in records:
        sign = -1 if record.get("change") in ("update_before", "delete") else 1
        found[row_of(record), row_of(record, right=True)] += sign
    assert all(count >= 0 for count in found.values()), "a row went that had not come"
    return +found
