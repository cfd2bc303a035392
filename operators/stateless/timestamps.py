"""`AssignTimestamps`: gives each record its event time, in the source's read-ahead.

A record without a time, or with one that is no time (before the year 1 or after 9999, as a wrong unit makes it), is
treated by the error policy: it could belong to any window.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from sys import getrefcount
from typing import Any, ClassVar

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.copies import kept_inside, own_value
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_row, unheld
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.operator import (
    BatchFunction,
    Collector,
    ErrorPolicy,
    OperatorContext,
    PureSpec,
)
from streamflow.operators.stateless.columns import checked_type, roots, union
from streamflow.operators.stateless.lone_halves import ROW, judged, judged_batch, judges
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.stateless.rows import rows_of, seen
from streamflow.time.timestamps import EARLIEST, LATEST, Epoch, to_micros
from streamflow.user_code import raised_by_user

__all__ = ["AssignTimestamps"]

_MICROS = {"d": 86_400_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True, eq=False)
class AssignTimestamps(PureSpec):
    """Event time from a column name, an expression, an `Epoch`, or a function of one row."""

    kind: ClassVar[str] = "event_time"
    event_time: str | pl.Expr | Epoch | Callable[[Any], Any] = ""
    on_error: ErrorPolicy = "fail"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        before = inputs[0]
        if isinstance(before.schema, Schema) and not _is_function(self.event_time):
            if isinstance(self.event_time, Epoch):
                _check_count(self.event_time, before.schema)
            elif isinstance(self.event_time, str):
                before.schema.need(self.event_time)
            dtype = checked_type(before, self._expression().alias("time"))["time"]
            if not isinstance(dtype, (pl.Datetime, pl.Date)):
                raise JobDefinitionError(
                    f"event time {self.describe()} is {dtype}",
                    hint='it must be a Datetime; an integer needs its unit: sf.epoch("column", unit="ms"), and text '
                    'a conversion: col("column").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_zone="UTC")',
                )
        elif isinstance(self.event_time, pl.Expr):
            raise JobDefinitionError(
                "event time is an expression, and the source gives Python objects",
                hint='use a field\'s name, sf.epoch("field", unit="ms"), or a function of the record',
            )
        return StreamType(before.schema, timed=True)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        if needed is None or _is_function(self.event_time):
            return None
        return union(needed, roots(self._expression()))

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        guard = Guard(ctx.operator_id, self.on_error, ctx.metrics)
        schema = inputs[0].schema
        judging = judges(inputs, self.on_error)
        if isinstance(schema, Schema) and not _is_function(self.event_time):
            return self._on_columns(inputs[0], guard, judging)
        return self._on_rows(guard, judging)

    def _on_columns(self, records: StreamType, guard: Guard, judging: bool) -> BatchFunction:
        stamp = self._stamp(records).alias(EVENT_TIME)
        chosen = self.event_time
        given = pl.col(chosen.column) if isinstance(chosen, Epoch) else self._expression().to_physical()

        def run(batch: AnyBatch, out: Collector) -> None:
            assert isinstance(batch, FrameBatch)
            frame = batch.frame.with_row_index(ROW) if judging else batch.frame
            frame = guard.frame(frame, lambda frame: frame.with_columns(stamp), out)
            if frame[EVENT_TIME].null_count():
                timeless = frame.filter(pl.col(EVENT_TIME).is_null()).drop(EVENT_TIME, ROW, strict=False)
                values = timeless.select(given.alias("given")).to_series()
                guard.bad(list(map(self._no_time, values, _shown(timeless))), out)
                frame = frame.filter(pl.col(EVENT_TIME).is_not_null())
            out.emit(FrameBatch(judged(frame) if judging else frame))

        return run

    def _on_rows(self, guard: Guard, judging: bool) -> BatchFunction:
        moment = self._function()

        def run(batch: AnyBatch, out: Collector) -> None:
            batch = seen(batch, guard, out, changing=judging)
            # As in `filter`, a value that the function keeps is its own from then on.
            rows = list(rows_of(batch).values)
            kept: list[int] = []
            times: list[int] = []
            bad: list[RecordError] = []
            for index, value in enumerate(rows):
                held = getrefcount(value)
                try:
                    time = moment(value)
                    if getrefcount(value) > held or kept_inside(value):
                        rows[index] = own_value(value)
                except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the record's error
                    bad.append(guard.error(raised_by_user(raised), value))
                    continue
                if time is None or not EARLIEST <= time <= LATEST:
                    bad.append(self._no_time(time, value))
                    continue
                kept.append(index)
                times.append(time)
            guard.bad(bad, out)
            if isinstance(batch, FrameBatch):
                stamp = pl.Series(EVENT_TIME, times, dtype=pl.Int64).cast(EVENT_TIME_TYPE)
                frame = batch.frame[kept] if bad else batch.frame
                made: AnyBatch = FrameBatch(frame.with_columns(stamp))
            else:
                made = RowBatch([rows[index] for index in kept] if bad else rows, times)
            out.emit(judged_batch(made, kept) if judging else made)

        return run

    def describe(self) -> str:
        if isinstance(self.event_time, Epoch):
            return f"{self.event_time.column} ({self.event_time.unit})"
        return getattr(self.event_time, "__name__", str(self.event_time))

    def _no_time(self, given: object, record: object) -> RecordError:
        what = "null" if given is None else f"{given}, beyond the years 1 to 9999"
        return RecordError(
            f"event time {self.describe()} is {what}",
            record=record,
            hint="filter such records before, or read with on_error='skip' or a dead-letter sink",
        )

    def _stamp(self, records: StreamType) -> pl.Expr:
        """Event time as an expression, null for times outside of the calendar."""
        if isinstance(self.event_time, Epoch):
            assert isinstance(records.schema, Schema)
            return self.event_time.expression(records.schema[self.event_time.column])
        expression = self._expression()
        # Counts since 1970 in UTC whatever the column's zone; without a zone it is UTC that is meant.
        unit = getattr(checked_type(records, expression.alias("time"))["time"], "time_unit", "d")
        count = expression.to_physical().cast(pl.Int64)
        if unit == "ns":
            return (count // 1_000).cast(EVENT_TIME_TYPE)
        scale = _MICROS[unit]
        within = count.is_between(EARLIEST // scale, LATEST // scale)
        return pl.when(within).then(count * scale).cast(EVENT_TIME_TYPE)

    def _expression(self) -> pl.Expr:
        if isinstance(self.event_time, Epoch):
            return self.event_time.expression()
        if isinstance(self.event_time, pl.Expr):
            return self.event_time
        assert isinstance(self.event_time, str)
        return pl.col(self.event_time)

    def _function(self) -> Callable[[Any], int | None]:
        chosen = self.event_time
        if isinstance(chosen, Epoch):
            name = chosen.column
            return lambda row: None if row[name] is None else chosen.micros(row[name])
        if isinstance(chosen, str):
            field = chosen
            return lambda row: _micros(row[field])
        assert not isinstance(chosen, pl.Expr)
        function = chosen
        return lambda row: _micros(function(row))


def _shown(records: pl.DataFrame) -> Iterable[dict[str, Any]]:
    if not unheld(records):
        return row_dicts(records)
    return [shown_row(records, row) for row in range(records.height)]


def _check_count(epoch: Epoch, schema: Schema) -> None:
    dtype = schema.need(epoch.column)
    if not (dtype.is_numeric() or dtype in (pl.String(), pl.Unknown(), pl.Null())):
        raise JobDefinitionError(
            f"event time {epoch.column} is {dtype}, and no count of {epoch.unit}",
            hint=f'name a column of times itself: event_time="{epoch.column}"',
        )


def _is_function(event_time: object) -> bool:
    return callable(event_time) and not isinstance(event_time, pl.Expr)


def _micros(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (dt.date, str)):
        raise JobDefinitionError(
            f"event time is {value!r}, a {type(value).__name__}",
            hint='give a datetime, ISO 8601 text, or sf.epoch("field", unit="ms") for integers',
        )
    return to_micros(value)
