"""The logic of a `ProcessSpec` in one subtask: events, timers, broadcast records, snapshots.

The loop over a batch does little for each event: it finds the key's slot in the cache, makes it the current one, and
calls `on_event`. Key groups are computed for the whole batch at once; the backend is written in slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, Final, Literal

import polars as pl

from streamflow.errors import RecordError, StateError, StreamflowError
from streamflow.keys import key_groups
from streamflow.operators.base import Collector, Operator, OperatorContext, OperatorSnapshot, StreamType
from streamflow.operators.guard import Guard
from streamflow.operators.kernels.partials import check_keys
from streamflow.operators.process import WHOLE_RECORD, ProcessSpec
from streamflow.operators.process_context import Emitted, ProcessContext, Timer, moment
from streamflow.operators.process_keys import KeyColumns
from streamflow.operators.row_builder import row_dicts
from streamflow.operators.rows import frame_of
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import EVENT_TIME, Schema, StreamSchema
from streamflow.records.serde import unpack
from streamflow.state.backend import StateAddress
from streamflow.state.parts import StatePart, copy_groups
from streamflow.state.state_cache import Current, StateCache
from streamflow.state.timers import TimerQueue
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["EVENT_TIMERS", "PROCESSING_TIMERS", "ProcessOperator"]

EVENT_TIMERS: Final = "event-timers"
PROCESSING_TIMERS: Final = "processing-timers"

_AHEAD: Final = 4_096
"""So many events' keys are looked at before the first of them is processed."""

_TIMERS_AT_ONCE: Final = 8_192
"""So many timers fire before what they put out is handed on."""

Row = tuple[Any, Any, int, int | None, Any]
"""(what its key is looked up by, the key, key group, event time, event)."""


class ProcessOperator(Operator):
    """Runs one copy of a process over the keys of one subtask."""

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
            ctx.state, ctx.operator_id, self._current, shown=self._keys.shown, by_bytes=self._keys.by_bytes
        )
        self._process = spec.own_process()
        self._bind()
        self._event_timers = TimerQueue(ctx.state, StateAddress(ctx.operator_id, EVENT_TIMERS))
        self._processing_timers = TimerQueue(ctx.state, StateAddress(ctx.operator_id, PROCESSING_TIMERS))
        self._main = Emitted()
        self._side = {name: Emitted() for name, _ in spec.side}
        self._context = ProcessContext(
            self._current,
            ctx.clock,
            self._main,
            self._side,
            self._event_timers if self._timed else None,
            self._processing_timers,
        )
        self._watermark = MIN_TIME
        self._unfinished = False
        self._marks: list[tuple[Emitted, int]] = []
        self._process.open()

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        self._current.wall = self._ctx.clock.now()
        if port == 0:
            assert isinstance(batch, FrameBatch)
            self._process_frame(batch.frame, out)
        else:
            self._broadcast_batch(batch, out)
        self._between(out)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        self._context.advance(watermark)
        self._current.wall = self._ctx.clock.now()
        due = self._event_timers.next_time
        if due is not None and due <= watermark:
            fired = self._fire(self._event_timers.due(watermark, _TIMERS_AT_ONCE), "event", out)
            self._unfinished = fired == _TIMERS_AT_ONCE
            if self._unfinished:
                self._between(out)
                return None
        self._unfinished = False
        self._watermark = self._current.watermark = watermark
        self._between(out)
        return watermark

    @property
    def unfinished(self) -> bool:
        return self._unfinished

    def next_processing_time(self) -> int | None:
        return self._processing_timers.next_time

    def on_processing_time(self, now: int, out: Collector) -> None:
        self._current.wall = now
        self._fire(self._processing_timers.due(now), "processing", out)
        self._between(out)

    def snapshot(self) -> OperatorSnapshot:
        self._cache.write_back()
        for queue in self._queues:
            queue.write_back()
        broadcast = {name: handle.snapshot() for name, handle in self._broadcast.items()}
        return OperatorSnapshot({"watermark": self._watermark, "broadcast": broadcast})

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._watermark = min((int(part.values["watermark"]) for part in parts), default=MIN_TIME)
        self._current.watermark = self._watermark
        self._context.advance(self._watermark)
        addresses = [*(handle.address for handle in self._cache.handles), *(q.address for q in self._queues)]
        for part in parts:
            if part.backend is not None and not part.adopted:
                for address in addresses:
                    copy_groups(part.backend, self._ctx.state, address, self._ctx.groups)
        for queue in self._queues:
            queue.recover()
        # Every subtask had the same.
        saved: Mapping[str, bytes] = parts[0].values["broadcast"] if parts else {}
        for name, handle in self._broadcast.items():
            if name in saved:
                handle.restore(saved[name])

    def close(self) -> None:
        self._process.close()

    def _bind(self) -> None:
        """Make each declared state the handle of this subtask: an attribute of the process, found without a call."""
        own = vars(self._process)
        declared = self._spec.declared
        self._expiring: list[Any] = []
        expiries: list[Any] = []
        for attribute, state in declared.keyed.items():
            own[attribute] = state.bind(self._cache)
        for handle in self._cache.handles:
            expiry = getattr(handle, "expiry", None)
            if expiry is not None:
                self._expiring.append(handle)
                expiries.append(expiry)
        self._broadcast = {state.name: state.bind() for state in declared.broadcast.values()}
        for attribute, broadcast in declared.broadcast.items():
            own[attribute] = self._broadcast[broadcast.name]
        self._expiries = expiries

    @property
    def _queues(self) -> list[Any]:
        return [self._event_timers, self._processing_timers, *self._expiries]

    def _process_frame(self, frame: pl.DataFrame, out: Collector) -> None:
        check_keys(frame, self._checked, self._ctx.operator_id)
        groups: list[int] = key_groups(frame, self._spec.keys, self._ctx.max_parallelism).to_list()
        hashed, keys = self._keys.of(frame)
        times: Iterable[int | None] = (
            frame[EVENT_TIME].to_physical().to_list() if self._timed else repeat(None)
        )
        rows = zip(hashed, keys, groups, times, _events(frame, self._spec.record_columns), strict=False)
        for start in range(0, frame.height, _AHEAD):
            stop = start + _AHEAD
            self._cache.prepare(hashed[start:stop], keys[start:stop], groups[start:stop])
            self._each(islice(rows, _AHEAD), out)

    def _each(self, rows: Iterator[Row], out: Collector) -> None:
        """Call `on_event` for each row; one that raises is treated by the error policy, and the next comes."""
        cache, current, context = self._cache, self._current, self._context
        on_event, careful = self._process.on_event, self._spec.on_error != "fail"
        errors: list[RecordError] = []
        event: Any = None
        while True:
            young = cache.young
            try:
                for hashed, key, group, time, event in rows:
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
            except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the record's error
                errors.append(self._failed(cause, event, errors, out))
        current.leave()
        self._guard.bad(errors, out)

    def _broadcast_batch(self, batch: AnyBatch, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        frame = batch.frame
        errors: list[RecordError] = []
        self._current.leave()
        for handle in self._broadcast.values():
            handle.writable = True
        try:
            times: Iterable[int | None] = (
                frame[EVENT_TIME].to_physical().to_list() if batch.timed else repeat(None)
            )
            for event, time in zip(_events(frame, self._spec.broadcast_columns), times, strict=False):
                self._current.time = self._own_time() if time is None or not self._timed else time
                self._mark()
                try:
                    self._process.on_broadcast(event, self._context)
                except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the record's error
                    errors.append(self._failed(cause, event, errors, out))
        finally:
            for handle in self._broadcast.values():
                handle.writable = False
        self._guard.bad(errors, out)

    def _fire(
        self, due: Iterator[tuple[int, bytes, int]], clock: Literal["event", "processing"], out: Collector
    ) -> int:
        """Call `on_timer` for each timer that is due; how many there were."""
        cache, current = self._cache, self._current
        on_timer: Callable[[Timer, ProcessContext], None] = self._process.on_timer
        errors: list[RecordError] = []
        fired = 0
        for time, key, group in due:
            fired += 1
            current.slot = cache.slot_of(key, group)
            current.time = time if clock == "event" else self._own_time()
            timer = Timer(moment(time), clock)
            self._mark()
            try:
                on_timer(timer, self._context)
            except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the timer's error
                errors.append(self._failed(cause, (self._context.key, timer), errors, out))
        current.leave()
        self._guard.bad(errors, out)
        return fired

    def _own_time(self) -> int | None:
        """The event time of rows that no event and no event-time timer gave rise to: the earliest that is not late."""
        if not self._timed:
            return None
        return self._ctx.clock.now() if self._watermark == MIN_TIME else min(self._watermark + 1, MAX_TIME)

    def _mark(self) -> None:
        """What is put out from here on belongs to one event."""
        self._marks = [(emitted, len(emitted.rows)) for emitted in (self._main, *self._side.values())]

    def _failed(
        self, cause: Exception, record: object, errors: list[RecordError], out: Collector
    ) -> RecordError:
        """An event's error, which takes the rows with it that the event had put out. Its changes of state stay."""
        if isinstance(cause, StreamflowError) and not isinstance(cause, RecordError):
            raise cause
        error = self._guard.error(cause, record)
        error.__cause__ = cause
        if self._spec.on_error == "fail":
            self._guard.bad([*errors, error], out)
        for emitted, length in self._marks:
            del emitted.rows[length:], emitted.times[length:]
        return error

    def _between(self, out: Collector) -> None:
        """After a batch or a watermark: put out what was emitted, clean up a little."""
        self._put_out(self._main, None, "", out)
        for name, schema in self._spec.side:
            self._put_out(self._side[name], schema, name, out)
        for handle in self._expiring:
            handle.clean()
        self._cache.settle()

    def _put_out(self, emitted: Emitted, schema: StreamSchema | None, name: str, out: Collector) -> None:
        if not emitted.rows:
            return
        times: Any = list(emitted.times) if self._timed else None
        batch = RowBatch(list(emitted.rows), times)
        emitted.rows.clear()
        emitted.times.clear()
        if not name:
            out.emit(batch)
        elif isinstance(schema, Schema):
            bad: list[RecordError] = []
            out.emit_to(name, frame_of(batch, schema, bad))
            self._guard.bad(bad, out)
        else:
            out.emit_to(name, batch)


def _events(frame: pl.DataFrame, columns: tuple[str, ...] | None) -> Iterable[Any]:
    """The rows as users see them."""
    if columns is not None:
        chosen = frame.select(columns)
        return chosen.to_series().to_list() if chosen.width == 1 else row_dicts(chosen)
    try:
        return [unpack(data) for data in frame[WHOLE_RECORD]]
    except StateError as error:
        raise RecordError(f"a record came damaged: {error.message}") from error
