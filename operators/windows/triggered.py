"""Windows that are looked at one by one, each a row: those with a trigger of their own, and those of own assigners.

There are two stores, by the time of windows' ends and within that by key and window. One has the partial aggregates,
which are only appended to until the window fires. The other has what decides whether it does: the trigger's state, the
number of records that are new, what it has put out so far. A batch is added to both; if its records may make a trigger
fire, the rows of its own windows are looked up and the triggers of all asked at once. Windows that wait for the clock
are looked up when their time comes. The watermark goes over the windows that end by it together, as over slices.
Windows that merge are all looked up by key, and wait for the watermark one by one.

A window is forgotten when the watermark is `allowed_lateness` past its end; what is new in it goes out before. In batch
mode, where all records are there before the first window ends, triggers are not asked: each window has one pane.
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
from streamflow.core.partition import partitioned
from streamflow.operators.aggregates.combiner import RECORD_START, with_fragments
from streamflow.operators.aggregates.partials import COUNT, END, START
from streamflow.operators.contract.operator import LATE, Collector, Operator
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.windows.alarms import WAIT, Alarms
from streamflow.operators.windows.emission import INDEX, TIMING
from streamflow.operators.windows.next_panes import NextPanes
from streamflow.operators.windows.trigger_machine import DONE, TriggerMachine
from streamflow.operators.windows.window_parts import WindowParts, count_in_no_window
from streamflow.operators.windows.window_rows import BY_END, BY_START, FRAGMENT, WindowRows
from streamflow.operators.windows.window_states import (
    IS_LAST,
    NEW,
    SINCE,
    Decided,
    WindowStates,
    all_of,
    constant,
)
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["TriggeredWindows"]

_PANE: Final = 0
"""The pane of windows that merge."""
_MOST_TOUCHED: Final = 32
"""The number of panes of a batch from which on they become twice as wide."""
_MOST_PANES: Final = 2_048
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
        alarms: Alarms,
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
        self._rules = WindowStates(rows, machine, parts.keys, discarding=parts.discarding, asks=asks)
        self._states = states(self._rules.merged)
        self._ends = ends
        self._alarms = alarms
        self._clock = clock
        self._asks = asks
        self._holds = holds
        self._lateness = parts.allowed_lateness
        self._watermark = MIN_TIME
        self._step = 0
        self._width = rows.width
        # The time at which something in a pane has to be looked at.
        self._due: dict[int, int] = {}
        self._next = NextPanes(
            rows,
            machine,
            self._rules,
            parts.keys,
            self._states,
            ends,
            alarms,
            lateness=parts.allowed_lateness,
            asks=asks,
        )
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
            count_in_no_window(self._parts.metrics, int(nowhere[COUNT].sum()))
        if rows.is_empty():
            return
        now = self._clock.now()
        if self._rows.merging:
            old = self._states.look_up(_PANE, rows[self._by])
            rows = self._not_late(rows, old, fragments, records, out)
            if rows.height:
                self._lost_to_finished(rows, self._look_at(_PANE, rows, old, now, out), fragments)
            return
        rows = self._not_late(rows, None, fragments, records, out)
        if rows.is_empty():
            return
        ends = rows[END]
        kept: list[pl.DataFrame] = []
        for pane, part in partitioned(rows, self._panes(ends)):
            if self._is_quiet(part):
                kept.append(part)
                self._add_quietly(pane, part, now)
            else:
                old = self._states.look_up(pane, part[self._by]) if pane in self._states else None
                kept.append(self._look_at(pane, part, old, now, out))
        self._lost_to_finished(rows, concatenated(kept), fragments)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if self._firing is None and watermark > self._watermark:
            passed = self._passed_by_key if self._rows.merging else self._passed
            self._firing = passed(self._watermark, watermark, out)
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
        due = (pane for pane, time in self._due.items() if time <= watermark and pane in self._states)
        return self._ends.rows_by(watermark) + sum(map(self._states.rows_in, due))

    def waiting(self) -> tuple[Waiting, ...]:
        return self._next.waiting(self._watermark, self._width, self._parts.store.rows)

    def next_processing_time(self) -> int | None:
        return self._alarms.next

    def on_processing_time(self, now: int, out: Collector) -> None:
        for waiting in self._alarms.due(now):
            panes = constant(_PLACE, _PANE, waiting) if self._rows.merging else self._pane(waiting[END])
            for pane, part in partitioned(waiting, panes):
                states = self._states.look_up(pane, part)
                if states is not None:
                    self._settle(pane, states, all_of(states, True), now, out)
                    if self._machine.quiet:
                        self._alarms.set_again(states, self._machine.clocks[0], now)

    def snapshot(self) -> OperatorSnapshot:
        kept = {
            "states": self._states.snapshot(),
            "ends": self._ends.snapshot(),
            "alarms": self._alarms.snapshot(),
        }
        values = {f"{name} values": dict(each.values) for name, each in kept.items()}
        return self._parts.snapshot(
            {
                "watermark": self._watermark,
                "step": self._step,
                "width": self._width,
                "ends next": self._next.ends,
                **values,
            },
            {name: table for each in kept.values() for name, table in each.tables.items()},
        )

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._parts.restore(parts)
        for name, store in (("states", self._states), ("ends", self._ends), ("alarms", self._alarms)):
            store.restore([replace(part, values=part.values[f"{name} values"]) for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)
        self._step = max(part.number("step") for part in parts)
        if not self._rows.merging:
            widths = {part.number("width") for part in parts}
            self._width = max(widths)
            if len(widths) > 1:
                self._divide_again()
            for part in parts:
                # Checkpoints of earlier versions say nothing of it.
                self._next.note(part.values.get("ends next", ()), self._width, only=self._states.panes())
            # Each is looked at once, with the next watermark.
            self._due = dict.fromkeys(self._states.panes(), MIN_TIME)
        self._alarms.forget_all()

    # Panes of windows that end at about the same time.

    def _pane(self, ends: pl.Series) -> pl.Series:
        return ends - ends % self._width

    def _panes(self, ends: pl.Series) -> pl.Series:
        """The panes of windows with these ends; where there would be many, panes become wider."""
        first, last = int(ends.min()), int(ends.max())  # type: ignore[arg-type]
        if not self._width:
            self._width = max(last - first, 1)
        panes = self._pane(ends)
        if (last - first) // self._width <= _MOST_TOUCHED and len(self._due) <= _MOST_PANES:
            return panes
        wider = False
        while (
            panes.n_unique() > _MOST_TOUCHED
            or len({p - p % self._width for p in self._due}) > _MOST_PANES // 2
        ):
            self._width *= 2
            panes, wider = self._pane(ends), True
        if wider:
            self._divide_again()
        return panes

    def _divide_again(self) -> None:
        """Puts the content of all panes into those of the present width."""
        for store in (self._states, self._parts.store):
            for pane in store.panes():
                rows = store.read(pane)
                panes = self._pane(rows[END])
                if rows.height and (panes != pane).any():
                    store.drop(pane)
                    for other, part in partitioned(rows, panes):
                        store.append(other, part)
        self._due = dict.fromkeys(self._states.panes(), MIN_TIME)
        self._next.divide_again(self._width)
        self._alarms.forget_all()

    # Records that come.

    def _fragments(self, records: pl.DataFrame) -> pl.DataFrame:
        """The partials of records by key and fragment; records in no window are counted."""
        if self._parts.partial_input:
            return records
        cut = with_fragments(self._parts.assigner, records)
        if RECORD_START in cut.columns and cut[RECORD_START].has_nulls():
            count_in_no_window(self._parts.metrics, cut[RECORD_START].null_count())
            cut = cut.filter(pl.col(RECORD_START).is_not_null())
        return self._parts.plan.partial(cut, self._parts.groups)

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
                out.emit_to(LATE, FrameBatch(self._parts.records_of(lost, records)))
            else:
                self._parts.metrics.late_dropped.add(int(lost[COUNT].sum()))
        return kept

    def _is_quiet(self, rows: pl.DataFrame) -> bool:
        """Whether these records cannot make a trigger fire, and their windows go on."""
        if self._machine.quiet:
            return int(rows[END].min()) - 1 > self._watermark  # type: ignore[arg-type]
        return not self._asks and not self._machine.can_finish

    def _add_quietly(self, pane: int, rows: pl.DataFrame, now: int) -> None:
        """Adds records without a look at what is there."""
        self._states.append(pane, self._rules.added(rows, self._step, now))
        self._parts.store.append(pane, rows.drop(FRAGMENT))
        first = int(rows[END].min())  # type: ignore[arg-type]
        due = first - 1 if first > self._watermark + 1 else MIN_TIME
        self._due[pane] = min(self._due.get(pane, due), due)
        self._next.note([first], self._width)
        if self._asks and self._machine.clocks:
            windows = rows[[*self._keys, START, END]]
            self._alarms.set_once(pane, windows, now + self._machine.delays[0], now)

    def _look_at(
        self, pane: int, rows: pl.DataFrame, old: pl.DataFrame | None, now: int, out: Collector
    ) -> pl.DataFrame:
        """Adds records to windows and asks their triggers; returns the rows of those that go on."""
        self._step += 1
        added = self._rules.added(rows, self._step, now)
        states = self._rules.merged(added if old is None else concatenated([old, added]), self._step)
        if self._machine.can_finish and states[DONE].any():
            given, rows = rows.height, self._going_on(rows, states)
            if self._rows.merging and rows.height < given and old is not None:
                # A record that came for a finished trigger is none of the windows that this one becomes part of.
                added = self._rules.added(rows, self._step, now)
                states = self._rules.merged(concatenated([old, added]), self._step)
        if not self._rows.merging:
            self._states.append(pane, added)
        else:
            if old is not None:
                self._states.remove(pane, old)
            self._states.append(pane, states)
        self._wait(pane, states, now)
        if not rows.is_empty():
            self._parts.store.append(pane, rows.drop(FRAGMENT))
            if self._asks:
                self._settle(pane, states, states[NEW] > 0, now, out)
        return rows

    def _going_on(self, rows: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
        """The rows of windows whose triggers have not finished."""
        on = [*self._keys, START, END]
        done = states.filter(pl.col(DONE))[on]
        if not self._rows.merging:
            return rows.filter(~has_key_in(rows, done, on))
        done = done.rename({START: BY_START, END: BY_END})
        within = (pl.col(START) >= pl.col(BY_START)) & (pl.col(END) <= pl.col(BY_END))
        places = key_join(rows.with_row_index(_PLACE), done, self._keys).filter(within)[_PLACE]
        return rows.filter(~pl.int_range(pl.len()).is_in(places.implode()))

    def _lost_to_finished(self, rows: pl.DataFrame, kept: pl.DataFrame, fragments: pl.DataFrame) -> None:
        """Counts as dropped the records of which all windows' triggers have finished."""
        if kept.height < rows.height:
            self._parts.metrics.late_dropped.add(int(_lost(rows, kept, fragments)[COUNT].sum()))

    def _wait(self, pane: int, states: pl.DataFrame, now: int) -> None:
        """Lets windows that have come up wait for their ends, and those whose triggers wait for the clock for that."""
        fresh = states.filter(pl.col(SINCE) >= self._step)
        if fresh.height and self._rows.merging:
            self._ends.add(self._waiting(fresh, self._until))
        elif fresh.height:
            due = int(fresh.select(self._until.min()).item())
            self._due[pane] = min(self._due.get(pane, due), due)
            self._next.note_windows(fresh, self._watermark, self._width)
        if not self._asks:
            return
        for clock, delay in zip(self._machine.clocks, self._machine.delays, strict=True):
            due = now + delay
            waiting = states.filter(pl.col(clock) == due)
            if waiting.height:
                self._alarms.set(waiting[[*self._keys, START, END]], due)

    @property
    def _until(self) -> pl.Expr:
        """The time at which windows have to be looked at: when they end, or when they are over."""
        last = pl.col(END) - 1
        to_come = (last > self._watermark) & pl.lit(self._machine.watches_end and self._asks)
        return pl.when(to_come).then(last).otherwise(self._clean_up)

    @property
    def _clean_up(self) -> pl.Expr:
        """The time at which windows are over."""
        return (pl.col(END) - 1).clip(upper_bound=MAX_TIME - self._lateness) + self._lateness

    def _waiting(self, states: pl.DataFrame, until: pl.Expr) -> pl.DataFrame:
        return states.select(*self._keys, START, END, until.alias(WAIT))

    # Windows that fire.

    def _passed(self, previous: int, watermark: int, out: Collector) -> Iterator[None]:
        """Asks the windows that end by the watermark, and forgets those that are over, pane by pane."""
        for pane in sorted(pane for pane, due in self._due.items() if due <= watermark):
            yield from self._sweep(pane, previous, out)
        if watermark >= MAX_TIME:
            self._end()

    def _sweep(self, pane: int, previous: int, out: Collector) -> Iterator[None]:
        """Goes over all windows of a pane, some keys at a time if they are many."""
        states, store = self._states, self._parts.store
        slices = max(each.slices([pane]) for each in (states, store) if pane in each)
        left: list[pl.DataFrame] = []
        partials: list[pl.DataFrame] = []
        fired = False
        for number in range(slices):
            windows = states.read_slice([pane], number, slices)
            if windows is None:
                continue
            found = store.read_slice([pane], number, slices) if pane in store else None
            ended = windows[END] - 1 <= self._watermark
            decided = self._decided(windows, ended, self._clock.now(), previous) if ended.any() else None
            if decided is not None:
                fired = True
                windows = decided.after.filter(~decided.over)
                if decided.told is not None:
                    self._emit(decided.told, found, out)
                self._forget_panes(decided)
                if found is not None and decided.gone.height:
                    on = [*self._keys, START, END]
                    own, others = alike(found, decided.gone, on)
                    found = own.join(others, on=on, how="anti", nulls_equal=True)
                yield
            left.append(windows)
            partials += [] if found is None else [found]
        del self._due[pane]
        self._next.forget(pane)
        self._alarms.forget(pane)
        if fired:
            for each, frames in ((states, left), (store, partials)):
                if pane in each:
                    each.drop(pane)
                whole = concatenated(frames) if frames else None
                if whole is not None and whole.height:
                    each.append(pane, whole)
        rest = [frame for frame in left if frame.height]
        if rest:
            self._due[pane] = min(int(frame.select(self._until.min()).item()) for frame in rest)
            for frame in rest:
                self._next.note_windows(frame, self._watermark, self._width)

    def _passed_by_key(self, previous: int, watermark: int, out: Collector) -> Iterator[None]:
        """The same for windows that merge, which wait one by one."""
        for waiting in self._ends.due(watermark):
            states = self._states.look_up(_PANE, waiting)
            if states is not None:
                ended = states[END] - 1 <= watermark
                self._settle(_PANE, states, ended, self._clock.now(), out, previous=previous)
                last = states[END] - 1
                kept = states.filter(ended & (last > previous) & (last > self._over_by))
                if kept.height:
                    self._ends.add(self._waiting(kept, self._clean_up))
            yield
        if watermark >= MAX_TIME:
            self._end()

    def _end(self) -> None:
        """Forgets everything."""
        self._states.clear()
        self._parts.store.clear()
        self._alarms.clear()
        self._due.clear()
        self._next.clear()

    def _decided(
        self, states: pl.DataFrame, asked: pl.Series, now: int, previous: int | None
    ) -> Decided | None:
        return self._rules.decide(states, asked, now, self._watermark, self._over_by, previous)

    def _settle(
        self,
        pane: int,
        states: pl.DataFrame,
        asked: pl.Series,
        now: int,
        out: Collector,
        *,
        previous: int | None = None,
    ) -> None:
        """Lets those of the windows fire that are `asked` and ready, or over; where windows merge, `states` are all
        windows of the keys."""
        decided = self._decided(states, asked, now, previous)
        if decided is None:
            return
        if decided.told is not None:
            self._emit(decided.told, self._parts.store.look_up(pane, decided.told[self._by]), out)
        self._forget_panes(decided)
        self._forget(pane, decided.gone)
        # A window that has fired has its new state; one that is over has none.
        fired = decided.ready | decided.over
        if self._rows.merging:
            fired = has_key_in(states, states.filter(fired), self._keys)
        self._states.remove(pane, states.filter(fired))
        after = decided.after.filter(fired & ~decided.over)
        if after.height:
            self._states.append(pane, after)

    def _emit(self, told: pl.DataFrame, found: pl.DataFrame | None, out: Collector) -> None:
        """Emits the panes of windows, out of the partials that were found of them."""
        parts, on = self._parts, [*self._keys, START, END]
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
        leading = [*on, *parts.times, INDEX, TIMING, IS_LAST]
        parts.writer.write_fired(parts.plan.results(joined, leading), self._watermark, out)

    def _forget_panes(self, decided: Decided) -> None:
        """Forgets what has gone out for windows that are over."""
        if decided.over.any():
            self._parts.writer.forget(decided.after.filter(decided.over)[[*self._keys, START, END]])

    def _forget(self, pane: int, windows: pl.DataFrame) -> None:
        """Removes the partials of windows."""
        if windows.is_empty():
            return
        store = self._parts.store
        found = store.look_up(pane, windows[self._by])
        if found is None:
            return
        store.remove(pane, found)
        if self._rows.merging:
            gone = self._pieces(found, windows)[_PLACE].implode()
            kept = found.filter(~pl.int_range(pl.len()).is_in(gone))
            if kept.height:
                store.append(pane, kept)

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
