"""The logic of a `MatchSpec` in one subtask.

Events wait until the watermark passes them (`TimeSorted`), then a portion of them is worked on in order. The state of
all keys of the portion is looked up at once; events of keys that have no partial match and begin none are left out in
columns, and the automaton goes over the others key by key. It knows events by their row numbers only: their values stay
in columns from the source to the match, except those that a condition on earlier steps reads.

State is a row for each event that a partial match has taken, in a `FrameStore` by key; the first row of a key has its
partial matches, packed. When the time of a partial match is over is kept apart, in order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch, End
from streamflow.core.frame import FrameBatch
from streamflow.core.membership import has_key_in
from streamflow.core.plain_keys import are_plain, keys_as_objects
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.core.serde import pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.errors import DamagedError
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import (
    LATE,
    Collector,
    Operator,
    OperatorContext,
    OperatorSnapshot,
)
from streamflow.operators.contract.waiting import Waiting, earliest
from streamflow.operators.kernels.engine import collected
from streamflow.operators.patterns.automaton import Holds
from streamflow.operators.patterns.conditions import HOLDS, Conditions
from streamflow.operators.patterns.dependent_values import DependentValues
from streamflow.operators.patterns.judging import mattering
from streamflow.operators.patterns.key_matching import KeyMatching, KeyState, Moment
from streamflow.operators.patterns.match import (
    MATCH_END,
    MATCH_START,
    TIMED_OUT,
    TIMED_OUT_AT,
    MatchSpec,
)
from streamflow.operators.patterns.match_rows import EVENT, Found, MatchRows
from streamflow.operators.process.process import WHOLE_RECORD
from streamflow.operators.stateless.null_keys import with_keys
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, format_time

__all__ = ["MatchOperator"]

_PANE: Final = 0
_NUMBER: Final = "\x1anumber"
"""The number of an event among those of its key."""
_PARTIALS: Final = "\x1apartials"
"""The packed state of a key, in its first row."""
_DUE: Final = "\x1adue"
_SPAN: Final = "span"
_DUE_SPAN: Final = "due_span"
_FEW: Final = 64
"""The number of rows up to which a query costs more than going over them."""
_NO_STATE: Final = (pl.Series(_NUMBER, [None], dtype=pl.Int64), pl.Series(_PARTIALS, [None], dtype=pl.Binary))
_AT_ONCE: Final = 16_384
"""The number of rows after which output is handed on."""
_EMPTY: Final = KeyState([], [])
_PLACE: Final = "\x1aplace"


@dataclass(slots=True)
class _Changes:
    """The changes of a portion to the state, by row numbers: keys whose rows go (one row of each), rows that are kept,
    with their numbers and packed states, and the times when partial matches are over."""

    gone: list[int] = field(default_factory=list[int])
    kept: list[int] = field(default_factory=list[int])
    numbers: list[int] = field(default_factory=list[int])
    partials: list[bytes | None] = field(default_factory=list["bytes | None"])
    due_rows: list[int] = field(default_factory=list[int])
    due: list[int] = field(default_factory=list[int])


class MatchOperator(Operator):
    """The logic of one subtask: finds the pattern in the events of the subtask's keys."""

    def __init__(self, spec: MatchSpec, ctx: OperatorContext, records: StreamType) -> None:
        assert isinstance(records.schema, Schema)
        self._spec = spec
        self._ctx = ctx
        self._keys = list(spec.keys)
        self._checked = spec.keys if spec.null_keys == "fail" else ()
        self._shown = None if spec.record_columns == (WHOLE_RECORD,) else spec.record_columns
        self._guard = Guard(ctx.operator_id, spec.on_error, ctx.metrics)
        self._automaton = spec.automaton
        conditions = Conditions(self._automaton, records, spec.record_columns)
        self._judge = conditions.expression if spec.records is None else None
        self._matters = mattering(self._automaton, ()) if spec.records is None else None
        self._begin = conditions.begin
        self._dependents = conditions.dependents
        owned = OwnedKeys(spec.keys, ctx.groups, ctx.max_parallelism)
        self._waiting = TimeSorted(
            ctx.state,
            ctx.operator_id,
            ctx.memory_budget,
            owned,
            time=EVENT_TIME,
            state="waiting",
            ties=spec.record_columns,
        )
        self._events = FrameStore(
            ctx.state, ctx.operator_id, _as_it_is, ctx.memory_budget, owned, state="events", replacing=True
        )
        self._due = TimeSorted(ctx.state, ctx.operator_id, ctx.memory_budget, owned, time=_DUE, state="due")
        shown = spec.shown_keys or spec.keys
        self._rows = MatchRows(self._automaton, shown, marked=ctx.marks)
        self._watermark = MIN_TIME
        self._last = MIN_TIME
        self._passing: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        batch = batch.unmarked()
        if self._judge is not None:
            batch = FrameBatch(self._guard.frame(batch.frame, self._judged, out))
        frame = with_keys(batch, self._checked, self._guard, out, self._shown).frame
        if frame.is_empty():
            return
        late = frame[EVENT_TIME].to_physical() <= self._watermark
        if late.any():
            self._late(frame.filter(late), out)
            frame = frame.filter(~late)
        self._waiting.add(frame if self._matters is None else frame.filter(self._matters))

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        # After a restore an input that others had gone on without may be behind.
        watermark = max(watermark, self._watermark)
        if self._passing is None:
            self._passing = self._pass(watermark, out)
        if next(self._passing, True) is None:
            return None
        self._passing = None
        self._watermark = watermark
        return watermark

    def on_end(self, end: End) -> None:
        self._last = max(self._last, end.last)

    def waiting(self) -> tuple[Waiting, ...]:
        first, due = self._waiting.earliest(), self._due.earliest()
        return earliest(
            None
            if first is None
            else Waiting(f"an event of {format_time(first)}", first, len(self._waiting)),
            None if due is None else Waiting(f"a partial match until {format_time(due)}", due, 0),
        )

    def work_at(self, watermark: int) -> int:
        return self._waiting.rows_by(watermark) + self._due.rows_by(watermark)

    @property
    def unfinished(self) -> bool:
        return self._passing is not None

    def snapshot(self) -> OperatorSnapshot:
        waiting, events, due = (each.snapshot() for each in (self._waiting, self._events, self._due))
        values = {
            "watermark": self._watermark,
            **events.values,
            **due.values,
            _DUE_SPAN: due.values[_SPAN],
            **waiting.values,
        }
        return OperatorSnapshot(values, {**waiting.tables, **events.tables, **due.tables}, waiting.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._watermark = min((part.number("watermark") for part in parts), default=MIN_TIME)
        self._waiting.restore(parts)
        self._events.restore(parts)
        self._due.restore(
            [replace(part, values={**part.values, _SPAN: part.number(_DUE_SPAN)}) for part in parts]
        )

    def _judged(self, frame: pl.DataFrame) -> pl.DataFrame:
        assert self._judge is not None
        return collected(frame.lazy().with_columns(self._judge), frame.height)

    def _late(self, frame: pl.DataFrame, out: Collector) -> None:
        if out.connected(LATE):
            out.emit_to(LATE, FrameBatch(frame.drop(HOLDS)))
        else:
            self._ctx.metrics.late_dropped.add(frame.height)

    def _pass(self, watermark: int, out: Collector) -> Iterator[None]:
        """Works on all that a watermark makes due; stops now and then so that output is handed on."""
        reached, worked = MIN_TIME, 0
        while reached < watermark:
            frame, reached = self._waiting.take(watermark)
            if frame is not None:
                self._match(frame, reached, out)
                worked += frame.height
            for due in self._due.due(reached):
                # Those of keys with events have been seen to: the rest is of keys that were quiet.
                self._match_quiet(due, reached, out)
                worked += due.height
                if worked > _AT_ONCE:
                    worked = 0
                    yield
            if worked > _AT_ONCE:
                worked = 0
                yield
        if watermark == MAX_TIME:
            yield from self._end(out)
        elif self._automaton.ends and not len(self._due):
            # No partial match is left: nor are marks.
            self._events.clear()

    def _match(self, frame: pl.DataFrame, watermark: int, out: Collector) -> None:
        """Goes over events in their order, and then the time up to the watermark, of their keys."""
        found = self._events.look_up(_PANE, frame)
        if frame.height > _FEW or found is None:
            begins = frame.filter((frame[HOLDS] & self._begin) != 0)
            if found is None and begins.is_empty():
                return
            known = [begins[self._keys], *(() if found is None else (found[self._keys],))]
            if begins.height < frame.height:
                frame = frame.filter(has_key_in(frame, concatenated(known), self._keys))
        pooled = self._pooled(frame)
        self._go_over(pooled if found is None else concatenated([found, pooled]), watermark, out)

    def _match_quiet(self, due: pl.DataFrame, watermark: int, out: Collector) -> None:
        found = self._events.look_up(_PANE, due)
        if found is not None:
            self._go_over(found, watermark, out)

    def _go_over(self, pool: pl.DataFrame, watermark: int, out: Collector) -> None:
        """Goes over the events of several keys: first the rows from state, then new ones."""
        times: list[int] = pool[EVENT_TIME].to_physical().to_list()
        numbers: list[int | None] = pool[_NUMBER].to_list()
        packed: list[bytes | None] = pool[_PARTIALS].to_list()
        holds: list[int] = pool[HOLDS].to_list()
        dependent = DependentValues(self._dependents, self._automaton, pool, self._guard, out)
        matching = KeyMatching(self._automaton, self._spec.after_match)
        matches: list[Found] = []
        timed_out: list[Found] = []
        changes = _Changes()
        for rows in self._grouped(pool):
            known = [row for row in rows if numbers[row] is not None]
            state = _state(packed, known)
            row_of: dict[int, int] = {numbers[row]: row for row in known}  # type: ignore[misc]
            new = rows[len(known) :] if known else rows
            row_of.update(enumerate(new, state.next_event))
            events = [(number, times[row]) for number, row in enumerate(new, state.next_event)]
            judged = dependent.of_key(row_of, holds) if self._dependents else _by_bits(row_of, holds)
            after = matching.through(state, events, judged, watermark)
            if matching.matches:
                matches += _in_rows(matching.matches, row_of)
                matching.matches = []
            if matching.timed_out:
                timed_out += _in_rows(matching.timed_out, row_of)
                matching.timed_out = []
            if after.partials != state.partials or after.held != state.held:
                self._change(changes, state, after, known, row_of)
        self._write(changes, pool)
        if matches:
            frame = self._rows.frame(matches, pool, times, MATCH_START, MATCH_END, over=False)
            out.emit(FrameBatch(frame))
        if timed_out and out.connected(TIMED_OUT):
            frame = self._rows.frame(timed_out, pool, times, MATCH_START, TIMED_OUT_AT, over=True)
            out.emit_to(TIMED_OUT, FrameBatch(frame))

    def _pooled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """New events with the columns of those in state."""
        columns = self._spec.record_columns
        whole = columns == (WHOLE_RECORD,)
        event = frame[WHOLE_RECORD].alias(EVENT) if whole else frame[list(columns)].to_struct(EVENT)
        empty = [column.new_from_index(0, frame.height) for column in _NO_STATE]
        return frame[self._keys].hstack([event, frame[EVENT_TIME], frame[HOLDS], *empty])

    def _grouped(self, pool: pl.DataFrame) -> list[list[int]]:
        """The row numbers of each key, in their order."""
        if pool.height <= _FEW and are_plain(pool[self._keys].dtypes):
            by_key: dict[object, list[int]] = {}
            for row, key in enumerate(keys_as_objects(pool, self._keys)):
                by_key.setdefault(key, []).append(row)
            return list(by_key.values())
        keyed = pool.select(*self._keys, pl.int_range(pl.len(), dtype=pl.UInt32).alias(_PLACE))
        return keyed.group_by(self._keys, maintain_order=True).agg(_PLACE)[_PLACE].to_list()

    def _change(
        self, changes: _Changes, before: KeyState, after: KeyState, known: list[int], row_of: dict[int, int]
    ) -> None:
        """Notes the changed state of a key."""
        if known:
            changes.gone.append(known[0])
        packed, numbers = after.packed()
        if not numbers:
            return
        changes.kept += [row_of[number] for number in numbers]
        changes.numbers += numbers
        changes.partials += [pack(packed), *[None] * (len(numbers) - 1)]
        due = self._due_moments(after, before.next_event)
        changes.due_rows += [known[0] if known else row_of[numbers[0]]] * len(due)
        changes.due += due

    def _due_moments(self, after: KeyState, next_event: int) -> list[int]:
        """The moments at which something about the new partial matches of a key is decided, without an event."""
        automaton = self._automaton
        due: set[int] = set()
        for partial in after.partials:
            if automaton.within is not None and partial.path[0][1] >= next_event:
                due.add(partial.start + automaton.within - 1)
            if automaton.shortest is not None and partial.path[-1][1] >= next_event:
                due |= partial.moments(automaton)
        return sorted(due)

    def _write(self, changes: _Changes, pool: pl.DataFrame) -> None:
        if changes.gone:
            self._events.remove(_PANE, pool[pl.Series(changes.gone, dtype=pl.UInt32)])
        if changes.kept:
            rows = pool[[*self._keys, EVENT, EVENT_TIME, HOLDS]][pl.Series(changes.kept, dtype=pl.UInt32)]
            numbers = pl.Series(_NUMBER, changes.numbers, dtype=pl.Int64)
            partials = pl.Series(_PARTIALS, changes.partials, dtype=pl.Binary)
            self._events.append(_PANE, rows.hstack([numbers, partials]))
        if changes.due:
            keys = pool[self._keys][pl.Series(changes.due_rows, dtype=pl.UInt32)]
            self._due.add(keys.hstack([pl.Series(_DUE, changes.due, dtype=pl.Int64)]))

    def _end(self, out: Collector) -> Iterator[None]:
        """Ends the input: what is held goes out, and nothing is kept."""
        if _PANE in self._events and self._spec.after_match.skips:
            for pool in self._events.in_slices(_PANE):
                if pool.height:
                    self._let_go(pool, out)
                    yield
        self._events.clear()
        self._due.clear()

    def _let_go(self, pool: pl.DataFrame, out: Collector) -> None:
        times: list[int] = pool[EVENT_TIME].to_physical().to_list()
        numbers: list[int] = pool[_NUMBER].to_list()
        packed: list[bytes | None] = pool[_PARTIALS].to_list()
        matching = KeyMatching(self._automaton, self._spec.after_match)
        matches: list[Found] = []
        for rows in self._grouped(pool):
            row_of = {numbers[row]: row for row in rows}
            matching.end(_state(packed, rows), max(self._last, times[rows[-1]]))
            matches += _in_rows(matching.matches, row_of)
            matching.matches = []
        if matches:
            frame = self._rows.frame(matches, pool, times, MATCH_START, MATCH_END, over=False)
            out.emit(FrameBatch(frame))


def _as_it_is(frame: pl.DataFrame) -> pl.DataFrame:
    """The merge of the rows of keys: no row stands for another."""
    if _PARTIALS not in frame.columns:
        raise DamagedError(f"events of partial matches have no {_PARTIALS!r}")
    return frame


def _state(packed: Sequence[bytes | None], rows: Sequence[int]) -> KeyState:
    """The state of a key, packed in one of its rows; empty if it has none."""
    for row in rows:
        data = packed[row]
        if data is not None:
            return KeyState.unpacked(unpack(data))
    return _EMPTY


def _in_rows(found: Sequence[Moment], row_of: Mapping[int, int]) -> list[Found]:
    """The matches of a key with the row numbers of their events."""
    return [(time, tuple((step, row_of[event]) for step, event in path)) for time, path in found]


def _by_bits(row_of: dict[int, int], holds: Sequence[int]) -> Callable[[int], Holds]:
    """The conditions of an event alone."""

    def judged(number: int) -> Holds:
        bits = holds[row_of[number]]
        return lambda condition, path: bool(bits >> condition & 1)

    return judged
