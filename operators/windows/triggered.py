"""Windows that are looked at one by one, each a row: those with a trigger of their own, and those of own assigners.

There are two stores by key and window. One has the partial aggregates, which are only appended to until the window
fires. The other has what decides whether it does: the trigger's state, the number of records that are new, what it has
put out so far. A batch looks up the rows of its own windows, adds to them and asks the triggers of all at once; the
clock and the watermark look up the windows that wait for them, whose times are in two queues. A window is forgotten
when the watermark is `allowed_lateness` past its end; what is new in it goes out before.

In batch mode, where all records are there before the first window ends, triggers are not asked: each window has one
pane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from streamflow.core.common_types import alike, concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.key_join import key_join
from streamflow.core.membership import has_key_in
from streamflow.operators.aggregates.combiner import RECORD_START
from streamflow.operators.aggregates.partials import COUNT, END, START
from streamflow.operators.contract.operator import LATE, Collector, Operator
from streamflow.operators.windows.emission import INDEX
from streamflow.operators.windows.merging import SESSION
from streamflow.operators.windows.trigger_machine import DONE, NOW, PASSED, READY, TriggerMachine
from streamflow.operators.windows.window_parts import WindowParts
from streamflow.operators.windows.window_rows import BY_END, BY_START, FRAGMENT, WindowRows
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["WAIT", "TriggeredWindows"]

WAIT: Final = "__wait"
"""The time that a window waits for: of its end, of its clean-up, of the clock."""
_PANE: Final = 0
_NEW: Final = "__new"
"""The number of records since the last pane."""
_SINCE: Final = "__since"
"""The number of the step in which the window came up."""
_ON: Final = "__on"
"""Whether a pane has gone out that was not early."""
_LAST: Final = "is_last"
_TIMING: Final = "pane_timing"
_PLACE: Final = "__place"


class TriggeredWindows(Operator):
    """The logic of `WindowAggregateSpec` for windows with triggers and own assigners, in one subtask."""

    def __init__(
        self,
        rows: WindowRows,
        machine: TriggerMachine,
        parts: WindowParts,
        states: Callable[[Callable[[pl.DataFrame], pl.DataFrame]], FrameStore],
        ends: TimeSorted,
        alarms: TimeSorted,
        clock: Clock,
        *,
        asks: bool,
        holds: bool,
    ) -> None:
        """`states` makes the store of windows, given the function that merges its rows; `ends` and `alarms` are the
        windows that wait for the watermark and the clock. `asks`: whether triggers are asked. `holds`: whether the
        watermark behind waits for open windows, whose results may have earlier times."""
        self._rows = rows
        self._machine = machine
        self._parts = parts
        self._keys = parts.keys
        self._by = [*parts.keys, *rows.within]
        self._states = states(self._merged)
        self._ends = ends
        self._alarms = alarms
        self._clock = clock
        self._asks = asks
        self._holds = holds
        self._lateness = parts.allowed_lateness
        self._watermark = MIN_TIME
        self._step = 0
        self._next: int | None = None
        self._firing: Iterator[None] | None = None
        self._empty: pl.DataFrame | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        records = self._parts.checked(batch)
        if records.is_empty():
            return
        fragments = self._fragments(records)
        rows = self._rows.rows(fragments)
        if self._rows.gaps:
            nowhere = _lost(fragments.with_row_index(FRAGMENT), rows, fragments)
            self._in_no_window(int(nowhere[COUNT].sum()))
        if rows.is_empty():
            return
        old = self._states.look_up(_PANE, rows[self._by])
        rows = self._not_late(rows, old, fragments, records, out)
        if rows.is_empty():
            return
        self._step += 1
        now = self._clock.now()
        added = self._added(rows, now)
        states = self._merged(added if old is None else concatenated([old, added]))
        if self._machine.can_finish and states[DONE].any():
            rows = self._not_finished(rows, states, fragments)
        if not self._rows.merging:
            self._states.append(_PANE, added)
        else:
            if old is not None:
                self._states.remove(_PANE, old)
            self._states.append(_PANE, states)
        self._wait(states, now)
        if not rows.is_empty():
            self._parts.store.append(_PANE, rows.drop(FRAGMENT))
            if self._asks:
                self._settle(states, states[_NEW] > 0, now, out)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if self._firing is None and watermark > self._watermark:
            self._firing = self._passed(self._watermark, watermark, out)
            self._watermark = watermark
        for _ in self._firing or ():
            return self._held(watermark)
        self._firing = None
        self._parts.writer.clean_up(watermark)
        return self._held(watermark)

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def work_at(self, watermark: int) -> int:
        return self._ends.rows_by(watermark)

    def next_processing_time(self) -> int | None:
        return self._next

    def on_processing_time(self, now: int, out: Collector) -> None:
        for waiting in self._alarms.due(now):
            states = self._states.look_up(_PANE, waiting)
            if states is not None:
                self._settle(states, _all(states, True), now, out)
        self._next = self._alarms.earliest()

    def snapshot(self) -> OperatorSnapshot:
        kept = {
            "states": self._states.snapshot(),
            "ends": self._ends.snapshot(),
            "alarms": self._alarms.snapshot(),
        }
        values = {f"{name} values": dict(each.values) for name, each in kept.items()}
        return self._parts.snapshot(
            {"watermark": self._watermark, "step": self._step, **values},
            {name: table for each in kept.values() for name, table in each.tables.items()},
        )

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._parts.restore(parts)
        for name, store in (("states", self._states), ("ends", self._ends), ("alarms", self._alarms)):
            store.restore([replace(part, values=part.values[f"{name} values"]) for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)
        self._step = max(part.number("step") for part in parts)
        self._next = self._alarms.earliest() if self._asks else None

    # Records that come.

    def _fragments(self, records: pl.DataFrame) -> pl.DataFrame:
        """The partials of records by key and fragment; records in no window are counted."""
        if self._parts.partial_input:
            return records
        marked = self._rows.marked(records)
        if RECORD_START in marked.columns and marked[RECORD_START].has_nulls():
            self._in_no_window(marked[RECORD_START].null_count())
            marked = marked.filter(pl.col(RECORD_START).is_not_null())
        return self._parts.plan.partial(marked, self._parts.groups)

    def _in_no_window(self, records: int) -> None:
        counter = self._parts.metrics.counter(
            "streamflow_records_in_no_window_total", "Records whose time lies between two windows"
        )
        counter.add(records)

    @property
    def _over_by(self) -> int:
        """The time by which windows are over that have their last moment at it or before."""
        if self._watermark >= MAX_TIME:
            return MAX_TIME
        return max(self._watermark - self._lateness, MIN_TIME)

    def _not_late(
        self,
        rows: pl.DataFrame,
        old: pl.DataFrame | None,
        fragments: pl.DataFrame,
        records: pl.DataFrame,
        out: Collector,
    ) -> pl.DataFrame:
        """The rows of windows that are not over. Fragments without such a window are late: their records are emitted,
        or counted."""
        bound = self._over_by
        if int(rows[END].min()) - 1 > bound:  # type: ignore[arg-type]
            return rows
        if self._rows.merging:
            # A window is over only if what it merges with is.
            bounds = [*self._keys, START, END, FRAGMENT]
            related = [rows[bounds]]
            if old is not None:
                none = pl.Series(FRAGMENT, [None], rows[FRAGMENT].dtype).new_from_index(0, old.height)
                related.append(old.hstack([none])[bounds])
            numbered = self._rows.numbered(concatenated(related), self._keys)
            late = numbered.filter(pl.col(BY_END) - 1 <= bound)[FRAGMENT].drop_nulls()
            kept = rows.filter(~pl.col(FRAGMENT).is_in(late.implode()))
        else:
            kept = rows.filter(pl.col(END) - 1 > bound)
        lost = _lost(rows, kept, fragments)
        if lost.height:
            if not self._parts.partial_input and out.connected(LATE):
                out.emit_to(LATE, FrameBatch(self._rows.of_fragments(records, lost, self._keys)))
            else:
                self._parts.metrics.late_dropped.add(int(lost[COUNT].sum()))
        return kept

    def _not_finished(
        self, rows: pl.DataFrame, states: pl.DataFrame, fragments: pl.DataFrame
    ) -> pl.DataFrame:
        """The rows of windows whose triggers go on; records that are in no other are counted as dropped."""
        done = states.filter(pl.col(DONE))[[*self._keys, START, END]]
        done = done.rename({START: BY_START, END: BY_END})
        within = (pl.col(START) >= pl.col(BY_START)) & (pl.col(END) <= pl.col(BY_END))
        if not self._rows.merging:
            within &= (pl.col(START) == pl.col(BY_START)) & (pl.col(END) == pl.col(BY_END))
        places = key_join(rows.with_row_index(_PLACE), done, self._keys).filter(within)[_PLACE]
        kept = rows.filter(~pl.int_range(pl.len()).is_in(places.implode()))
        self._parts.metrics.late_dropped.add(int(_lost(rows, kept, fragments)[COUNT].sum()))
        return kept

    def _added(self, rows: pl.DataFrame, now: int) -> pl.DataFrame:
        """The states that a batch adds to those of its windows."""
        return rows.select(
            *self._keys,
            START,
            END,
            pl.col(COUNT).alias(_NEW),
            pl.lit(self._step, pl.Int64).alias(_SINCE),
            pl.lit(0, pl.Int64).alias(INDEX),
            pl.lit(False).alias(_ON),
            *self._machine.brought(now),
        )

    def _merged(self, states: pl.DataFrame) -> pl.DataFrame:
        """One state for each window."""
        columns = states.columns
        if not self._rows.merging:
            others = [pl.col(name).first() for name in (START, END) if name not in self._by]
            progress = [pl.col(_SINCE).min(), pl.col(INDEX).max(), pl.col(_ON).any()]
            merges = [*others, pl.col(_NEW).sum(), *progress, *self._machine.merges(None)]
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
                pl.col(_NEW).sum(),
                pl.col(_SINCE).filter(same).min().fill_null(MAX_TIME),
                pl.col(INDEX).filter(same).max().fill_null(0),
                pl.col(_ON).filter(same).any(),
                *self._machine.merges(same),
            )[columns]
        )

    def _wait(self, states: pl.DataFrame, now: int) -> None:
        """Lets windows that have come up wait for their ends, and those whose triggers wait for the clock for that."""
        fresh = states.filter(pl.col(_SINCE) >= self._step)
        if fresh.height:
            last = pl.col(END) - 1
            to_come = (last > self._watermark) & pl.lit(self._machine.watches_end and self._asks)
            self._ends.add(self._waiting(fresh, pl.when(to_come).then(last).otherwise(self._clean_up)))
        if not self._asks:
            return
        for clock, delay in zip(self._machine.clocks, self._machine.delays, strict=True):
            due = now + delay
            waiting = states.filter(pl.col(clock) == due)
            if waiting.height:
                self._alarms.add(self._waiting(waiting, pl.lit(due, pl.Int64)))
                self._next = due if self._next is None else min(self._next, due)

    @property
    def _clean_up(self) -> pl.Expr:
        """The time at which windows are over."""
        return (pl.col(END) - 1).clip(upper_bound=MAX_TIME - self._lateness) + self._lateness

    def _waiting(self, states: pl.DataFrame, until: pl.Expr) -> pl.DataFrame:
        return states.select(*self._keys, START, END, until.alias(WAIT))

    # Windows that fire.

    def _passed(self, previous: int, watermark: int, out: Collector) -> Iterator[None]:
        """Asks the windows that have waited for the watermark, and forgets those that are over."""
        for waiting in self._ends.due(watermark):
            states = self._states.look_up(_PANE, waiting)
            if states is not None:
                ended = states[END] - 1 <= watermark
                self._settle(states, ended, self._clock.now(), out, previous=previous)
                last = states[END] - 1
                kept = states.filter(ended & (last > previous) & (last > self._over_by))
                if kept.height:
                    self._ends.add(self._waiting(kept, self._clean_up))
            yield
        if watermark >= MAX_TIME:
            self._states.clear()
            self._parts.store.clear()
            self._alarms.clear()
            self._next = None

    def _settle(
        self,
        states: pl.DataFrame,
        asked: pl.Series,
        now: int,
        out: Collector,
        *,
        previous: int | None = None,
    ) -> None:
        """Lets those of the windows fire that are `asked` and ready, or over; where windows merge, `states` are all
        windows of the keys. `previous`: the watermark before, if it has moved."""
        last = states[END] - 1
        moved = previous is not None
        passed = last <= self._watermark
        over = asked & (last <= self._over_by) if moved else _all(states, False)
        frame = states.hstack([passed.alias(PASSED), _constant(NOW, now, states)])
        if self._asks:
            frame = frame.with_columns(self._machine.ready & asked)
        else:
            frame = frame.hstack([_all(states, False).alias(READY)])
        ready = frame[READY]
        if not (ready.any() or over.any()):
            return
        on_time = passed & ~frame[_ON] & (last > previous) if moved else _all(states, False)
        says = (ready | (over & ~frame[DONE])) & (
            (frame[_NEW] > 0) | (on_time & (ready | self._machine.waits))
        )
        after = frame.with_columns(self._machine.after)
        if says.any():
            timing = pl.when(on_time).then(pl.lit("ON_TIME")).when(passed).then(pl.lit("LATE"))
            told = after.select(
                *self._keys,
                START,
                END,
                INDEX,
                timing.otherwise(pl.lit("EARLY")).alias(_TIMING),
                (over | after[DONE]).alias(_LAST),
            ).filter(says)
            self._emit(told, out)
        self._forget(states.filter(over | says if self._parts.discarding else over))
        if over.any():
            self._parts.writer.forget(states.filter(over)[[*self._keys, START, END]])
        # A window that has fired has its new state; one that is over has none.
        fired = ready | over
        if self._rows.merging:
            fired = has_key_in(states, states.filter(fired), self._keys)
        self._states.remove(_PANE, states.filter(fired))
        new = pl.when(ready).then(0).otherwise(pl.col(_NEW)).alias(_NEW)
        panes = pl.col(INDEX) + says.cast(pl.Int64)
        after = after.with_columns(new, panes.alias(INDEX), pl.col(_ON) | (says & passed))[states.columns]
        after = after.filter(fired & ~over)
        if after.height:
            self._states.append(_PANE, after)

    def _emit(self, told: pl.DataFrame, out: Collector) -> None:
        """Emits the panes of windows."""
        parts, on = self._parts, [*self._keys, START, END]
        found = parts.store.look_up(_PANE, told[self._by])
        if found is None:
            found = told[on].clear()
        elif self._rows.merging:
            found = parts.plan.merge(self._pieces(found, told), [*self._keys, BY_START, BY_END])
            found = found.rename({BY_START: START, BY_END: END})
        joined = key_join(told, found, on)
        if joined.height < told.height:
            if self._empty is None:
                self._empty = parts.plan.empty()
            own, others = alike(told, found, on)
            without = own.join(others, on=on, how="anti", nulls_equal=True)
            empty = without.hstack([column.new_from_index(0, without.height) for column in self._empty])
            joined = concatenated([joined, empty]) if joined.height else empty
        leading = [*on, *parts.times, INDEX, _TIMING, _LAST]
        parts.writer.write_fired(parts.plan.results(joined, leading), self._watermark, out)

    def _forget(self, states: pl.DataFrame) -> None:
        """Removes the partials of windows."""
        if states.is_empty():
            return
        store = self._parts.store
        found = store.look_up(_PANE, states[self._by])
        if found is None:
            return
        store.remove(_PANE, found)
        if self._rows.merging:
            gone = self._pieces(found, states)[_PLACE].implode()
            kept = found.filter(~pl.int_range(pl.len()).is_in(gone))
            if kept.height:
                store.append(_PANE, kept)

    def _pieces(self, found: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
        """The partials that are in these windows, with the bounds of the window: parts of merged windows, of which some
        may have been discarded."""
        bounds = windows.select(*self._keys, pl.col(START).alias(BY_START), pl.col(END).alias(BY_END))
        within = (pl.col(START) >= pl.col(BY_START)) & (pl.col(START) < pl.col(BY_END))
        return key_join(found.with_row_index(_PLACE), bounds, self._keys).filter(within)

    def _held(self, watermark: int) -> int | None:
        """The watermark of the output: no later result that is not late has an earlier time."""
        if watermark >= MAX_TIME or not self._holds:
            return watermark
        held = self._rows.held(watermark)
        return None if held is None else min(watermark, held)


def _lost(rows: pl.DataFrame, kept: pl.DataFrame, fragments: pl.DataFrame) -> pl.DataFrame:
    """The fragments of rows of which none was kept."""
    lost = sorted(set(rows[FRAGMENT]) - set(kept[FRAGMENT]))
    return fragments[pl.Series(lost, dtype=pl.UInt32)]


def _all(rows: pl.DataFrame, value: bool) -> pl.Series:
    return pl.Series([value]).new_from_index(0, rows.height)


def _constant(name: str, value: int, rows: pl.DataFrame) -> pl.Series:
    return pl.Series(name, [value], pl.Int64).new_from_index(0, rows.height)
