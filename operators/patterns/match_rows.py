"""The rows of matches: paths of events as columns, gathered from the frame that the events lie in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeAlias

import polars as pl

from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, WATERMARK, shown_name
from streamflow.operators.patterns.automaton import Automaton, Path

__all__ = ["EVENT", "Found", "MatchRows"]

EVENT: Final = "\x1aevent"
"""The column of an event: a struct of its columns, or a packed object."""

Found: TypeAlias = tuple[int, Path]
"""(event time in microseconds at which it was decided, path of row numbers)."""


class MatchRows:
    """Makes frames of matches. `keys` are in the users' order; `marked`: each row carries the watermark before it."""

    def __init__(self, automaton: Automaton, keys: Sequence[str], *, marked: bool) -> None:
        self._steps = automaton.steps
        self._keys = list(keys)
        self._marked = marked

    def frame(
        self,
        found: Sequence[Found],
        pool: pl.DataFrame,
        times: Sequence[int],
        start: str,
        end: str,
        *,
        over: bool,
    ) -> pl.DataFrame:
        """The rows of paths (at least one) by the moment at which they were decided. `pool` has the events, `times`
        their times; `start` and `end` name the columns of the first event's time and of the last one's, or, if the
        time is `over`, of the moment after."""
        found = sorted(found, key=_moment)
        decided = [time for time, _ in found]
        first = [path[0][1] for _, path in found]
        events = pool[EVENT]
        rows = pl.Series(first, dtype=pl.UInt32)
        columns = [pool[key].gather(rows).alias(shown_name(key)) for key in self._keys]
        for step, (name, repeated) in enumerate(self._steps):
            taken = [[row for number, row in path if number == step] for _, path in found]
            columns.append(_lists(events, taken, name) if repeated else _each(events, taken, name))
        ends = [time + 1 for time in decided] if over else [times[path[-1][1]] for _, path in found]
        columns.append(_moments(start, [times[row] for row in first]))
        columns.append(_moments(end, ends))
        columns.append(_moments(EVENT_TIME, decided))
        if self._marked:
            columns.append(_moments(WATERMARK, [time - 1 for time in decided]))
        # From a list Polars would give a column without a name another one.
        return pl.DataFrame({column.name: column for column in columns})


def _moment(found: Found) -> int:
    return found[0]


def _moments(name: str, times: Sequence[int]) -> pl.Series:
    return pl.Series(name, times, dtype=pl.Int64).cast(EVENT_TIME_TYPE)


def _each(events: pl.Series, taken: Sequence[Sequence[int]], name: str) -> pl.Series:
    """The event of each row number, null for none."""
    rows = pl.Series([row[0] if row else None for row in taken], dtype=pl.UInt32)
    return events.gather(rows).alias(name)


def _lists(events: pl.Series, taken: Sequence[Sequence[int]], name: str) -> pl.Series:
    """The events of several row numbers, as lists."""
    flat = pl.Series(list(chain.from_iterable(taken)), dtype=pl.UInt32)
    owner = pl.Series([number for number, rows in enumerate(taken) for _ in rows], dtype=pl.UInt32)
    grouped = pl.DataFrame([owner.alias("owner"), events.gather(flat).alias(name)])
    lists = grouped.group_by("owner", maintain_order=True).agg(name)[name]
    if len(lists) == len(taken):
        return lists
    # Those without an event have no group: another's list, cut to nothing, stands for an empty one.
    lists = lists if len(lists) else pl.Series(name, [[]], dtype=lists.dtype)
    place, places = 0, list[int]()
    for rows in taken:
        places.append(place if rows else 0)
        place += 1 if rows else 0
    lengths = pl.Series("length", [len(rows) for rows in taken], dtype=pl.UInt32)
    padded = pl.DataFrame([lists.gather(pl.Series(places, dtype=pl.UInt32)).alias(name), lengths])
    return padded.select(pl.col(name).list.head(pl.col("length"))).to_series()
