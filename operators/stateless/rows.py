"""Conversion between rows and columns of one stream: the `Convert` operator that the planner puts between two
layouts.

A row is a dict of the columns, however many there are.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.kinds import any_column
from streamflow.core.python_times import unheld
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, WATERMARK, Schema
from streamflow.core.stream_type import StreamType
from streamflow.core.values import framed, strict_column
from streamflow.errors import JobDefinitionError, RecordError, cut, unknown_name
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.operator import (
    BatchFunction,
    Collector,
    ErrorPolicy,
    Layout,
    OperatorContext,
    PureSpec,
)
from streamflow.operators.stateless.lone_halves import judged_batch
from streamflow.operators.stateless.row_builder import calls_with, calls_with_rows, in_calendar, row_dicts
from streamflow.user_code import described, raised_by_user

__all__ = [
    "FITTING_HINT",
    "Convert",
    "calls",
    "columns_of",
    "convert",
    "each_row",
    "fitting_frame",
    "frame_of",
    "rows_of",
    "seen",
    "time_columns",
    "times_of",
]

_UNKNOWN: Final = pl.Unknown()


@dataclass(frozen=True)
class Convert(PureSpec):
    """The same records in the other layout."""

    kind: ClassVar[str] = "convert"
    to: Layout = Layout.ROWS
    on_error: ErrorPolicy = "fail"

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return self.to

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        if self.to is Layout.FRAME and not isinstance(inputs[0].schema, Schema):
            raise JobDefinitionError(
                "this stream holds Python objects, and columns are needed here",
                hint="give the source a schema=, or the function before a return annotation or schema=",
            )
        return inputs[0]

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return None

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        schema = inputs[0].schema
        guard = Guard(ctx.operator_id, self.on_error, ctx.metrics)

        def run(batch: AnyBatch, out: Collector) -> None:
            if self.to is Layout.ROWS:
                out.emit(rows_of(seen(batch, guard, out)))
            else:
                assert isinstance(schema, Schema)
                bad: list[RecordError] = []
                frame = frame_of(batch, schema, bad)
                guard.bad(bad, out)
                out.emit(frame)

        return run

    def describe(self) -> str:
        return f"to {self.to.value}"


def convert(wanted: Layout, type_: StreamType) -> PureSpec:
    """The planner's factory for conversions."""
    return Convert(to=wanted)


def rows_of(batch: AnyBatch) -> RowBatch:
    """A batch as rows; itself if it holds rows already."""
    return batch if isinstance(batch, RowBatch) else RowBatch(list(each_row(batch)), *times_of(batch))


def seen(batch: AnyBatch, guard: Guard, out: Collector, *, changing: bool = False) -> AnyBatch:
    """The records that Python's values can hold; the others are bad records. `changing`: they are changes, of which
    each half of an update that is left stands alone."""
    if isinstance(batch, RowBatch):
        return batch
    bad = unheld(in_calendar(batch.user_frame()))
    if not bad:
        return batch
    guard.bad(list(bad.values()), out)
    held = [row for row in range(len(batch)) if row not in bad]
    chosen = batch.chosen([row not in bad for row in range(len(batch))])
    return judged_batch(chosen, held) if changing else chosen


def each_row(batch: AnyBatch, start: int = 0, stop: int | None = None) -> Iterable[Any]:
    """The records as functions see them, from position `start` to `stop`; a frame's rows are built one at a time."""
    if isinstance(batch, RowBatch):
        return batch.values if stop is None else batch.values[start:stop]
    return row_dicts(batch.user_frame()[start:stop])


def calls(
    batch: AnyBatch,
    functions: Sequence[Callable[[Any], Any]],
    results: Sequence[list[Any]],
    types: Sequence[set[type]] | None = None,
) -> Callable[[], None]:
    """Calls each function with each record, like `calls_with_rows`."""
    if isinstance(batch, RowBatch):
        return calls_with(batch.values, functions, results, types)
    return calls_with_rows(batch.user_frame(), functions, results, types)


def times_of(batch: AnyBatch) -> tuple[Sequence[int] | None, Sequence[int] | None]:
    """The event times and the watermarks of the records, as far as they have them."""
    if isinstance(batch, RowBatch):
        return batch.times, batch.marks
    times = batch.frame[EVENT_TIME].to_physical().to_list() if batch.timed else None
    return times, batch.frame[WATERMARK].to_physical().to_list() if batch.marked else None


def frame_of(batch: AnyBatch, schema: Schema, bad: list[RecordError]) -> FrameBatch:
    """A batch as a frame of these columns; errors of rows that do not fit are appended to `bad`, and the rows left
    out."""
    if isinstance(batch, FrameBatch):
        return batch
    built, misfits = columns_of(batch, schema)
    if not misfits:
        return built
    bad.extend(RecordError(why, record=batch.values[at], hint=FITTING_HINT) for at, why in misfits.items())
    return built.chosen([index not in misfits for index in range(len(batch))])


def fitting_frame(batch: AnyBatch, schema: Schema) -> FrameBatch:
    """A batch as a frame of these columns; raises the RecordError of the first row that does not fit."""
    bad: list[RecordError] = []
    frame = frame_of(batch, schema, bad)
    if bad:
        raise bad[0]
    return frame


FITTING_HINT: Final = "correct the function, its return annotation or its schema="


def columns_of(
    batch: RowBatch, schema: Schema, timed_as: AnyBatch | None = None
) -> tuple[FrameBatch, dict[int, str]]:
    """Records as a frame of these columns, with nulls for records that do not fit, and an error text for each by
    position.

    A record is a dict, a dataclass, a named tuple or a tuple with a value for each column and nothing else; for one
    column the bare value will do. `timed_as`: a batch with as many records that has their times, if `batch` itself
    has none.

    >>> frame, misfits = columns_of(RowBatch([{"n": 1}, {"m": 2}]), Schema({"n": pl.Int64}))
    >>> misfits
    {1: "no field 'm'; there are: n; use one of those"}
    """
    misfits: dict[int, str] = {}
    columns: list[pl.Series] = []
    for (name, dtype), given in zip(schema.items(), _fields(batch.values, schema, misfits), strict=True):
        column, unfit = (
            any_column(name, given) if dtype == _UNKNOWN else strict_column(name, given, dtype, whole=True)
        )
        columns.append(column)
        misfits = {**unfit, **misfits}
    frame = framed([*columns, *time_columns(batch if timed_as is None else timed_as)])
    return FrameBatch(frame), dict(sorted(misfits.items()))


def time_columns(batch: AnyBatch) -> list[pl.Series]:
    """The reserved columns of records as a frame: event times and watermarks, as far as they have them."""
    if isinstance(batch, FrameBatch):
        return [batch.frame[name] for name in (EVENT_TIME, WATERMARK) if name in batch.frame.columns]
    given = {EVENT_TIME: batch.times, WATERMARK: batch.marks}
    return [
        pl.Series(name, times, dtype=pl.Int64).cast(EVENT_TIME_TYPE)
        for name, times in given.items()
        if times is not None
    ]


def _fields(values: Sequence[Any], schema: Schema, misfits: dict[int, str]) -> list[list[Any]]:
    """The fields of each record by column; notes in `misfits` values that are no record of these columns."""
    names = list(schema)
    if set(map(type, values)) == {dict} and sum(map(len, values)) == len(names) * len(values):
        try:
            return [[value[name] for value in values] for name in names]
        except KeyError:
            pass  # a field is missing: the loop below finds which
    rows: list[Sequence[Any]] = []
    for index, value in enumerate(values):
        try:
            rows.append(_record(value, schema, names))
        except ValueError as error:
            misfits[index] = str(error)
            rows.append([None] * len(names))
        except BaseException as raised:  # noqa: BLE001 — it may be of a user's class, which may raise anything
            misfits[index] = f"a {type(value).__name__} cannot be read: {described(raised_by_user(raised))}"
            rows.append([None] * len(names))
    return [[row[position] for row in rows] for position in range(len(names))]


def _record(value: Any, schema: Schema, names: list[str]) -> Sequence[Any]:
    """A record's fields in the order of the columns; raises ValueError that says what is wrong with it."""
    fields = _named(value)
    if fields is None:
        return _unnamed(value, schema, names)
    for name in fields:
        if name not in schema:
            raise ValueError("; ".join(unknown_name("field", str(name), names)))
    for name in names:
        if name not in fields and name not in schema.optional:
            raise ValueError(f"there is no field {name!r}: give it, as None if there is no value")
    return [fields.get(name) for name in names]


def _named(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named: Any = value
        return dict(zip(named._fields, named, strict=True))
    return None


def _unnamed(value: Any, schema: Schema, names: list[str]) -> Sequence[Any]:
    """The fields of a bare value (for one column) or of a tuple with a value for each column."""
    if value is None and schema.optional != frozenset(names):
        raise ValueError(f"it is None, where a record of {', '.join(names)} was expected")
    if len(names) == 1:
        return [value]
    if isinstance(value, (tuple, list)) and len(cast("Sequence[Any]", value)) == len(names):
        return cast("Sequence[Any]", value)
    raise ValueError(f"{cut(repr(value), 60)} is no record of {', '.join(names)}")
