"""The states of windows: a row for each, with its trigger's state and what has come and gone out.

A batch adds rows with what it brings, which merge with those that are there; firing changes the rows that fire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from streamflow.operators.aggregates.partials import COUNT, END, START
from streamflow.operators.windows.emission import INDEX, TIMING
from streamflow.operators.windows.merging import SESSION
from streamflow.operators.windows.trigger_machine import DONE, NOW, PASSED, READY, TriggerMachine
from streamflow.operators.windows.window_rows import BY_END, BY_START, WindowRows

__all__ = ["IS_LAST", "NEW", "SINCE", "Decided", "WindowStates", "all_of", "constant"]

NEW: Final = "__new"
"""The number of records since the last pane."""
SINCE: Final = "__since"
"""The number of the step in which the window came up."""
_ON: Final = "__on"
"""Whether a pane has gone out that was not early."""
IS_LAST: Final = "is_last"


@dataclass(frozen=True, slots=True)
class Decided:
    """The windows that are `ready` to fire and those that are `over`, all `after` that, what is `told` of some, and the
    windows whose partials are `gone`."""

    ready: pl.Series
    over: pl.Series
    after: pl.DataFrame
    told: pl.DataFrame | None
    gone: pl.DataFrame


class WindowStates:
    """The rules for the states of one assigner's windows under one trigger. `discarding`: a window keeps nothing that
    has gone out. `asks`: whether triggers are asked."""

    def __init__(
        self, rows: WindowRows, machine: TriggerMachine, keys: list[str], *, discarding: bool, asks: bool
    ) -> None:
        self._rows = rows
        self._machine = machine
        self._keys = keys
        self._by = [*keys, *rows.within]
        self._discarding = discarding
        self._asks = asks

    def added(self, rows: pl.DataFrame, step: int, now: int) -> pl.DataFrame:
        """The states that a batch adds to those of its windows."""
        return rows.select(
            *self._keys,
            START,
            END,
            pl.col(COUNT).alias(NEW),
            pl.lit(step, pl.Int64).alias(SINCE),
            pl.lit(0, pl.Int64).alias(INDEX),
            pl.lit(False).alias(_ON),
            *self._machine.brought(now),
        )

    def merged(self, states: pl.DataFrame, step: int = 0) -> pl.DataFrame:
        """One state for each window. `step`: the number of the present step, in which windows that have become others
        come up."""
        columns = states.columns
        if not self._rows.merging:
            others = [pl.col(name).first() for name in (START, END) if name not in self._by]
            progress = [pl.col(SINCE).min(), pl.col(INDEX).max(), pl.col(_ON).any()]
            merges = [*others, pl.col(NEW).sum(), *progress, *self._machine.merges(None)]
            return states.group_by(self._by).agg(merges)[columns]
        # A window with other bounds than before is another one: its trigger and its panes begin again.
        same = (pl.col(START) == pl.col(BY_START)) & (pl.col(END) == pl.col(BY_END))
        return (
            self._rows.numbered(states, self._keys)
            .group_by(SESSION)
            .agg(
                *(pl.col(key).first() for key in self._keys),
                pl.col(BY_START).first().alias(START),
                pl.col(BY_END).first().alias(END),
                pl.col(NEW).sum(),
                pl.col(SINCE).filter(same).min().fill_null(step),
                pl.col(INDEX).filter(same).max().fill_null(0),
                pl.col(_ON).filter(same).any(),
                *self._machine.merges(same),
            )[columns]
        )

    def firing(self, states: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """The states that put out a pane if nothing comes until the time that each has in NOW; with PASSED."""
        passed = states[END] - 1 <= watermark
        asked = states.hstack([passed.alias(PASSED)]).with_columns(self._machine.ready)
        return asked.filter(pl.col(READY) & (pl.col(NEW) > 0))

    def decide(
        self,
        states: pl.DataFrame,
        asked: pl.Series,
        now: int,
        watermark: int,
        over_by: int,
        previous: int | None,
    ) -> Decided | None:
        """The decision for windows of which some are `asked`; None if none is ready, and none over. `over_by`: the
        time by which windows are over. `previous`: the watermark before, if it has moved."""
        last = states[END] - 1
        passed = last <= watermark
        none = all_of(states, False)
        over = none if previous is None else asked & (last <= over_by)
        ends = none if previous is None else passed & (last > previous)
        has_new = states[NEW] > 0
        frame = states.hstack([passed.alias(PASSED), constant(NOW, now, states)])
        if self._asks:
            # Others have nothing to fire for: how often they are asked depends on what lies beside them.
            frame = frame.with_columns(self._machine.ready & asked & (has_new | ends))
        else:
            frame = frame.hstack([none.alias(READY)])
        ready = frame[READY]
        if not (ready.any() or over.any()):
            return None
        on_time = ends & ~frame[_ON]
        says = (ready | (over & ~frame[DONE])) & (has_new | (on_time & (ready | self._machine.waits)))
        after = frame.with_columns(self._machine.after)
        told: pl.DataFrame | None = None
        if says.any():
            timing = pl.when(on_time).then(pl.lit("ON_TIME")).when(passed).then(pl.lit("LATE"))
            told = after.select(
                *self._keys,
                START,
                END,
                INDEX,
                timing.otherwise(pl.lit("EARLY")).alias(TIMING),
                (over | after[DONE]).alias(IS_LAST),
            ).filter(says)
        new = pl.when(ready).then(0).otherwise(pl.col(NEW)).alias(NEW)
        panes = pl.col(INDEX) + says.cast(pl.Int64)
        after = after.with_columns(new, panes.alias(INDEX), pl.col(_ON) | (says & passed))[states.columns]
        gone = states.filter(over | says if self._discarding else over)[[*self._keys, START, END]]
        return Decided(ready, over, after, told, gone)


def all_of(rows: pl.DataFrame, value: bool) -> pl.Series:
    """A column of one truth value."""
    return pl.Series([value]).new_from_index(0, rows.height)


def constant(name: str, value: int, rows: pl.DataFrame) -> pl.Series:
    """A column of one number."""
    return pl.Series(name, [value], pl.Int64).new_from_index(0, rows.height)
