"""The logic of a `ProcessSpec` in one subtask: events, timers, broadcast records, snapshots.

The loop over a batch does little for each event: it checks whether a timer comes first, finds the key's slot in the
cache, makes it the current one, and calls `on_event`. Key groups, the order of events and the watermark before each
are computed for the whole batch at once; the backend is written in slices.

Between two events event time goes on without leaps: a timer fires when the watermark reaches its time, whichever
watermark passed it. So its view and its output do not depend on other keys' records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, Final, Literal

import polars as pl

from streamflow.core.elements import AnyBatch, End
from streamflow.core.frame import FrameBatch
from streamflow.core.keys import key_groups
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, WATERMARK, Schema, StreamSchema
from streamflow.core.serde import unpack
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError, StateError, StreamflowError, Where
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import (
    LATE,
    Collector,
    Operator,
    OperatorContext,
    OperatorSnapshot,
    own_output,
)
from streamflow.operators.contract.waiting import Waiting, earliest
from streamflow.operators.process.broadcast_in_order import BroadcastInOrder
from streamflow.operators.process.context import Emitted, Firing, ProcessContext, Timer, moment
from streamflow.operators.process.keys import KeyColumns
from streamflow.operators.process.process import WHOLE_RECORD, ProcessSpec
from streamflow.operators.stateless.null_keys import with_keys
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.stateless.rows import FITTING_HINT, columns_of, seen
from streamflow.operators.stateless.user_functions import unfit_results
from streamflow.state.backends.protocol import StateAddress
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.cache import Current, StateCache
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.keyed.timers import TimerQueue
from streamflow.state.operator_snapshot import StatePart, take_groups
from streamflow.time.effort import Effort
from streamflow.time.timestamps import LATEST, MAX_TIME, MIN_TIME, format_time
from streamflow.user_code import line_of_definition, raised_by_user

__all__ = ["EVENT_TIMERS", "PROCESSING_TIMERS", "ProcessOperator"]

EVENT_TIMERS: Final = "event-timers"
PROCESSING_TIMERS: Final = "processing-timers"

_AHEAD: Final = 4_096
"""The number of events whose keys are looked up before the first of them is processed."""

_TIMERS_AT_ONCE: Final = 8_192
"""The number of timers that fire before their output is handed on."""
_TIMERS_FOR: Final = 0.1
"""Seconds of firing timers after which their output is handed on."""

Row = tuple[Any, Any, int, int | None, Any, int]
"""(look-up form of the key, key, key group, event time, event, the watermark before it)."""

_NO_MARK: Final = -(2**63) - 1
"""A watermark before the time of any timer."""

_NO_END: Final = End()
_TIME: Final = pl.col(EVENT_TIME).to_physical()


class ProcessOperator(Operator):
    """The logic of one subtask: runs one copy of a process over the subtask's keys."""

    def __init__(self, spec: ProcessSpec, ctx: OperatorContext, inputs: Sequence[StreamType]) -> None:
        schema = inputs[0].schema
        self._spec = spec
        self._ctx = ctx
        self._timed = inputs[0].timed
        self._checked = spec.keys if spec.null_keys == "fail" else ()
        self._keys = KeyColumns(spec.keys, dict(schema) if isinstance(schema, Schema) else {})
        self._guard = Guard(ctx.operator_id, spec.on_error, ctx.metrics)
        self._current = Current()
        self._cache = StateCache(
            ctx.state,
            ctx.operator_id,
            self._current,
            shown=self._keys.shown,
            by_bytes=self._keys.by_bytes,
            memory=ctx.memory_budget,
        )
        self._process = spec.own_process()
        self._bind()
        self._event_timers = TimerQueue(ctx.state, StateAddress(ctx.operator_id, EVENT_TIMERS))
        self._processing_timers = TimerQueue(ctx.state, StateAddress(ctx.operator_id, PROCESSING_TIMERS))
        self._sorts = self._timed and (spec.order == "event_time" or ctx.updates == "end")
        ties = (spec.record_columns or (WHOLE_RECORD,)) if spec.order == "event_time" else ()
        owned = OwnedKeys(spec.keys, ctx.groups, ctx.max_parallelism)
        self._waiting = TimeSorted(
            ctx.state, ctx.operator_id, ctx.memory_budget, owned, time=EVENT_TIME, state="waiting", ties=ties
        )
        self._orders_broadcast = spec.order == "event_time" and len(inputs) > 1 and inputs[1].timed
        self._rules = BroadcastInOrder(spec.broadcast_columns or (WHOLE_RECORD,))
        marked = ctx.marks and self._timed
        self._main = Emitted(marked=marked)
        self._side = {name: Emitted(marked=marked) for name, _ in spec.side}
        self._firing = Firing()
        self._context = ProcessContext(
            self._current,
            ctx.clock,
            self._main,
            self._side,
            self._event_timers if self._timed else None,
            self._processing_timers,
            None if spec.shown_keys is None else [spec.keys.index(key) for key in spec.shown_keys],
            self._firing,
        )
        self._watermark = MIN_TIME
        self._end = _NO_END
        self._before = MIN_TIME
        """The watermark before the next of the records that are put in order."""
        self._effort = Effort(ctx.clock)
        self._passing: Iterator[None] | None = None
        self._marks: list[tuple[Emitted, int]] = []
        self._process.open()

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        self._current.wall = self._ctx.clock.now()
        if port == 0:
            assert isinstance(batch, FrameBatch)
            batch = with_keys(self._held(batch, out), self._checked, self._guard, out)
            if self._sorts:
                self._wait(batch, out)
            else:
                self._hand_over_left(out)
                self._process_frame(batch.frame, batch.marked, out)
        else:
            self._broadcast_batch(batch, out)
        self._between(out)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        self._current.wall = self._ctx.clock.now()
        # After a restore an input that others had gone on without may be behind.
        watermark = max(watermark, self._watermark)
        if self._passing is None:
            self._passing = self._pass(watermark, out)
        unfinished = next(self._passing, True) is None
        if not unfinished:
            self._passing = None
            self._watermark = watermark
        self._between(out)
        return None if unfinished else watermark

    def on_end(self, end: End) -> None:
        self._end = end

    @property
    def unfinished(self) -> bool:
        return self._passing is not None

    def next_processing_time(self) -> int | None:
        return self._processing_timers.next_time

    def on_processing_time(self, now: int, out: Collector) -> None:
        self._current.wall = now
        self._fire(self._processing_timers, now, "processing", out, gives_way=True)
        self._between(out)

    def waiting(self) -> tuple[Waiting, ...]:
        due, first = self._event_timers.next_time if self._timed else None, self._waiting.earliest()
        rows, alarm = len(self._waiting), self._processing_timers.next_time
        rule = self._rules.earliest
        return earliest(
            None if due is None else Waiting(f"a timer set for {format_time(due)}", due, 0),
            None if first is None else Waiting(f"an event of {format_time(first)}", first, rows),
            None
            if rule is None
            else Waiting(f"a broadcast record of {format_time(rule)}", rule, len(self._rules)),
            None if alarm is None else Waiting("a timer of processing time", alarm, 0, by_clock=True),
        )

    def snapshot(self) -> OperatorSnapshot:
        self._cache.write_back()
        for queue in self._queues:
            queue.write_back()
        broadcast = {name: handle.snapshot() for name, handle in self._shared.items()}
        waiting = self._waiting.snapshot()
        rules = self._rules.snapshot()
        values = {"watermark": self._watermark, "broadcast": broadcast, "rules": rules, **waiting.values}
        return OperatorSnapshot(values, waiting.tables, waiting.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._watermark = min((part.number("watermark") for part in parts), default=MIN_TIME)
        self._current.watermark = self._watermark
        addresses = [*(handle.address for handle in self._cache.handles), *(q.address for q in self._queues)]
        # First of all: a backend that has nothing yet can begin with the files of another.
        take_groups(parts, self._ctx.state, addresses, self._ctx.groups)
        self._waiting.restore(parts)
        for queue in self._queues:
            queue.recover()
        # Every subtask had the same.
        saved: Mapping[str, bytes] = parts[0].values["broadcast"] if parts else {}
        for name, handle in self._shared.items():
            if name in saved:
                handle.restore(saved[name])
        # Checkpoints of earlier versions have none.
        self._rules.restore(parts[0].values.get("rules") if parts else None)

    def close(self) -> None:
        self._process.close()

    def _bind(self) -> None:
        """Makes each declared state the handle of this subtask: an attribute of the process, found without a call."""
        own = vars(self._process)
        declared = self._spec.declared
        for attribute, state in declared.keyed.items():
            own[attribute] = state.bind(self._cache)
        self._expiring = [handle for handle in self._cache.handles if handle.expiry is not None]
        self._shared = {state.name: state.bind() for state in declared.broadcast.values()}
        for attribute, broadcast in declared.broadcast.items():
            own[attribute] = self._shared[broadcast.name]

    @property
    def _queues(self) -> list[Any]:
        return [self._event_timers, self._processing_timers, *(each.expiry for each in self._expiring)]

    def _held(self, batch: FrameBatch, out: Collector) -> FrameBatch:
        """The records that Python's values can hold; the others are bad records."""
        held = seen(batch, self._guard, out)
        assert isinstance(held, FrameBatch)
        return held

    def _wait(self, batch: FrameBatch, out: Collector) -> None:
        """Keeps records until the watermark passes them; with `order="event_time"`, those behind it are late."""
        frame = batch.frame
        if self._spec.order == "event_time":
            frame = batch.unmarked().frame
            late = frame[EVENT_TIME].to_physical() <= self._watermark
            if late.any():
                self._late(frame.filter(late), out)
                frame = frame.filter(~late)
        elif not batch.marked:
            frame = frame.with_columns(pl.lit(None, EVENT_TIME_TYPE).alias(WATERMARK))
        self._waiting.add(frame)

    def _late(self, frame: pl.DataFrame, out: Collector) -> None:
        if out.connected(LATE):
            out.emit_to(LATE, FrameBatch(frame))
        else:
            self._ctx.metrics.late_dropped.add(frame.height)

    def _pass(self, watermark: int, out: Collector) -> Iterator[None]:
        """Hands over the events and fires the timers that a watermark makes due; stops now and then so that output is
        handed on."""
        self._hand_over_left(out)
        if watermark < MAX_TIME:
            yield from self._up_to(watermark, out)
        else:
            # As far as it came while there was input, and then the rest.
            yield from self._up_to(max(self._end.watermark, self._current.watermark), out, ends=True)
            self._firing.ended, self._firing.last = True, self._end.last
            yield from self._up_to(MAX_TIME, out)
        self._current.watermark = watermark

    def _up_to(self, watermark: int, out: Collector, *, ends: bool = False) -> Iterator[None]:
        if self._spec.order == "event_time":
            for frame in self._waiting.due(watermark):
                mark = (_TIME - 1).cast(EVENT_TIME_TYPE).alias(WATERMARK)
                yield from self._between_broadcasts(frame.with_columns(mark), out)
            for time, rules in self._rules.due(watermark):
                yield from self._broadcast_at(time, rules, out)
        elif ends:
            for frame in self._waiting.due(MAX_TIME):
                yield from self._in_portions(self._as_in_order(frame), out)
        while self._fire(self._event_timers, watermark, "event", out, gives_way=True):
            yield
        self._current.watermark = max(self._current.watermark, watermark)

    def _between_broadcasts(self, frame: pl.DataFrame, out: Collector) -> Iterator[None]:
        """Processes records in order, and before those of a moment what was broadcast until then."""
        times = frame[EVENT_TIME].to_physical()
        done = 0
        for time, rules in self._rules.due(times[-1]):
            until = times.search_sorted(time, side="left")
            yield from self._in_portions(frame[done:until], out)
            done = until
            yield from self._broadcast_at(time, rules, out)
        yield from self._in_portions(frame[done:], out)

    def _broadcast_at(self, time: int, rules: pl.DataFrame, out: Collector) -> Iterator[None]:
        """Takes broadcast records of one moment, after the timers before it."""
        while self._fire(self._event_timers, time - 1, "event", out, gives_way=True):
            yield
        self._current.watermark = max(self._current.watermark, time - 1)
        self._broadcast(rules, out)

    def _in_portions(self, frame: pl.DataFrame, out: Collector) -> Iterator[None]:
        """Processes records with their watermarks, in portions that can be waited for."""
        done = 0
        while done < frame.height:
            part = frame[done : done + self._effort.portion]
            self._effort.run(part.height, self._process_frame, part, True, out)
            done += part.height
            yield

    def _as_in_order(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Records in order of event time with the watermarks of a source in this order: a bound behind the record
        before, which need not be among them."""
        lag = max(self._end.last - self._end.watermark, 1)
        before, self._before = self._before, frame[EVENT_TIME].to_physical()[-1] - lag
        carried = pl.col(WATERMARK).to_physical()
        elsewhere = self._latest_before(frame[EVENT_TIME].to_physical()) - lag
        # Of one moment may be what became of a single record: then what it carries is all there is to know.
        known = (_TIME.shift(1) == _TIME) & (carried > MIN_TIME)
        here = pl.when(known.not_().fill_null(True)).then((_TIME - lag).shift(1, fill_value=before))
        mark = pl.max_horizontal(carried, elsewhere, here).cum_max()
        return frame.with_columns(mark.cast(EVENT_TIME_TYPE).alias(WATERMARK))

    def _latest_before(self, times: pl.Series) -> pl.Series:
        """The latest time among the records of all inputs before each of these times; null if there is none."""
        seen = self._end.times
        if seen is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(times))
        at = seen.search_sorted(times, side="left").cast(pl.Int64) - 1
        return seen.gather(pl.select(pl.when(at >= 0).then(at)).to_series())

    def _hand_over_left(self, out: Collector) -> None:
        """Processes records that an earlier run kept in order, if this run no longer sorts."""
        if not self._orders_broadcast:
            for _, rules in self._rules.due(MAX_TIME):
                self._broadcast(rules, out)
        if not self._sorts and len(self._waiting):
            for frame in self._waiting.due(MAX_TIME):
                self._process_frame(frame, False, out)

    def _process_frame(self, frame: pl.DataFrame, marked: bool, out: Collector) -> None:
        """Processes records, with the watermark before each if they are `marked`."""
        groups: list[int] = key_groups(frame, self._spec.keys, self._ctx.max_parallelism).to_list()
        hashed, keys = self._keys.of(frame)
        times: Iterable[int | None] = (
            frame[EVENT_TIME].to_physical().to_list() if self._timed else repeat(None)
        )
        marks: Iterable[int] = frame[WATERMARK].to_physical().to_list() if marked else repeat(_NO_MARK)
        events = _events(frame, self._spec.record_columns)
        rows = zip(hashed, keys, groups, times, events, marks, strict=False)
        for start in range(0, frame.height, _AHEAD):
            stop = start + _AHEAD
            self._cache.prepare(hashed[start:stop], keys[start:stop], groups[start:stop])
            self._each(islice(rows, _AHEAD), out)

    def _each(self, rows: Iterator[Row], out: Collector) -> None:
        """Calls `on_event` for each row, after the timers that the watermark before the row makes due. A row that
        raises is treated by the error policy, and the next row follows."""
        cache, current, context, timers = self._cache, self._current, self._context, self._event_timers
        on_event, careful = self._process.on_event, self._spec.on_error != "fail"
        errors: list[RecordError] = []
        event: Any = None
        reached = current.watermark
        while True:
            young = cache.young
            try:
                for hashed, key, group, time, event, mark in rows:
                    if mark >= timers.soonest:
                        self._fire(timers, mark, "event", out)
                        young = cache.young
                    if mark > reached:
                        current.watermark = reached = mark
                    slot = young.get(hashed)
                    if slot is None:
                        slot = cache.enter(hashed, key, group)
                        young = cache.young
                    current.slot = slot
                    current.time = time
                    if careful:
                        self._mark()
                    on_event(event, context)
                break
            except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the record's error
                errors.append(self._failed(raised_by_user(raised), event, errors, out))
        current.leave()
        self._guard.bad(errors, out)

    def _broadcast_batch(self, batch: AnyBatch, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        frame = self._held(batch, out).unmarked().frame
        if self._orders_broadcast:
            late = frame[EVENT_TIME].to_physical() <= self._watermark
            self._rules.add(frame.filter(~late))
            frame = frame.filter(late)
        if frame.height:
            self._broadcast(frame, out)

    def _broadcast(self, frame: pl.DataFrame, out: Collector) -> None:
        """Calls `on_broadcast` for each record."""
        errors: list[RecordError] = []
        self._current.leave()
        self._begins("on_broadcast")
        for handle in self._shared.values():
            handle.writable = True
        try:
            times: Iterable[int | None] = (
                frame[EVENT_TIME].to_physical().to_list() if EVENT_TIME in frame.columns else repeat(None)
            )
            for event, time in zip(_events(frame, self._spec.broadcast_columns), times, strict=False):
                self._current.time = self._own_time() if time is None or not self._timed else time
                self._mark()
                try:
                    self._process.on_broadcast(event, self._context)
                except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the record's error
                    errors.append(self._failed(raised_by_user(raised), event, errors, out))
        finally:
            for handle in self._shared.values():
                handle.writable = False
            self._begins("on_event")
        self._guard.bad(errors, out)

    def _fire(
        self,
        queue: TimerQueue,
        limit: int,
        clock: Literal["event", "processing"],
        out: Collector,
        *,
        gives_way: bool = False,
    ) -> bool:
        """Calls `on_timer` for each timer that is due by `limit`; returns whether there may be more, if it
        `gives_way` after many timers or a long time."""
        cache, current, context, pop = self._cache, self._current, self._context, queue.pop
        on_timer: Callable[[Timer, ProcessContext], None] = self._process.on_timer
        careful = self._spec.on_error != "fail"
        errors: list[RecordError] = []
        now = self._ctx.clock.monotonic
        fired, until = 0, now() + _TIMERS_FOR
        more = False
        self._begins("on_timer")
        while not more and (due := pop(limit)) is not None:
            time, key, group = due
            fired += 1
            current.slot = cache.slot_of(key, group)
            if clock == "event":
                self._firing.time = time
                current.time = time
                if time > current.watermark:
                    current.watermark = time
            else:
                current.time = self._own_time()
            timer = Timer(moment(time), clock)
            if careful:
                self._mark()
            try:
                on_timer(timer, context)
            except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the timer's error
                errors.append(self._failed(raised_by_user(raised), (context.key, timer), errors, out))
            more = gives_way and (fired == _TIMERS_AT_ONCE or now() > until)
        self._firing.time = None
        current.leave()
        self._begins("on_event")
        self._guard.bad(errors, out)
        return more

    def _own_time(self) -> int | None:
        """The event time of rows caused by neither an event nor an event-time timer: the earliest that is not late."""
        if not self._timed:
            return None
        watermark = self._current.watermark
        return self._ctx.clock.now() if watermark == MIN_TIME else min(watermark + 1, LATEST)

    def _mark(self) -> None:
        """Notes that the following rows belong to one event."""
        self._marks = [(emitted, len(emitted.rows)) for emitted in (self._main, *self._side.values())]

    def _failed(
        self, cause: BaseException, record: object, errors: list[RecordError], out: Collector
    ) -> RecordError:
        """Handles an event's error, which takes the event's output along. Its changes of state stay."""
        if isinstance(cause, StreamflowError) and not isinstance(cause, RecordError):
            raise cause
        error = self._guard.error(cause, record)
        if self._spec.on_error == "fail":
            self._guard.bad([*errors, error], out)
        for emitted, length in self._marks:
            emitted.cut(length)
        return error

    def _between(self, out: Collector) -> None:
        """Works after a batch or a watermark: puts out emitted rows, cleans up a little."""
        self._put_out(self._main, self._spec.schema, "", out)
        for name, schema in self._spec.side:
            self._put_out(self._side[name], schema, name, out)
        for handle in self._expiring:
            handle.clean()
        self._cache.settle()

    def _put_out(self, emitted: Emitted, schema: StreamSchema, name: str, out: Collector) -> None:
        if not emitted.rows:
            return
        rows = emitted.taken(timed=self._timed)
        batch: AnyBatch = rows
        if isinstance(schema, Schema):
            batch, misfits = columns_of(rows, schema)
        else:
            misfits = unfit_results(rows.values)
        bad = [
            RecordError(why, record=rows.values[at], where=self._line_of(emitted, at), hint=FITTING_HINT)
            for at, why in misfits.items()
        ]
        if bad:
            batch = batch.chosen([at not in misfits for at in range(len(rows))])
            self._guard.bad(bad, out)
        emitted.begin_again()
        if name:
            out.emit_to(own_output(name), batch)
        else:
            out.emit(batch)

    def _line_of(self, emitted: Emitted, row: int) -> Where:
        return Where(code=line_of_definition(getattr(type(self._process), emitted.method_of(row))))

    def _begins(self, method: str) -> None:
        """Notes that the following rows come from that method."""
        self._main.begins(method)
        for emitted in self._side.values():
            emitted.begins(method)


def _events(frame: pl.DataFrame, columns: tuple[str, ...] | None) -> Iterable[Any]:
    """The rows as users see them."""
    if columns is not None:
        chosen = frame.select(columns)
        return row_dicts(chosen)
    try:
        return [unpack(data) for data in frame[WHOLE_RECORD]]
    except StateError as error:
        raise RecordError(f"a record came damaged: {error.message}") from error
