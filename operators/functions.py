"""Python functions on rows: map, flat_map, filter. Functions that follow one another are fused into one operator.

What a function returns is described by its return annotation or `schema=`; without either the stream holds objects.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, ClassVar, Literal, cast

import polars as pl

from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.base import (
    Collector,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
    StreamType,
)
from streamflow.operators.guard import DEAD_LETTER_TYPE, Guard
from streamflow.operators.rows import rows_of
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.schema import EVENT_TIME_TYPE, OBJECTS, Objects, Schema, StreamSchema

__all__ = ["Functions", "Step", "declared_schema", "returned_schema"]


@dataclass(frozen=True)
class Step:
    """One function; `schema` is what it returns, None for a filter."""

    kind: Literal["map", "flat_map", "filter"]
    function: Callable[[Any], Any]
    schema: StreamSchema | None = None
    on_error: ErrorPolicy = "fail"
    name: str = ""


@dataclass(frozen=True)
class Functions(OperatorSpec):
    """Functions applied one after the other to each row."""

    accepts: ClassVar[Layout] = Layout.ROWS
    emits: ClassVar[Layout] = Layout.ROWS
    steps: tuple[Step, ...] = ()

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.steps[0].kind if len(self.steps) == 1 else "functions"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        schema = inputs[0].schema
        for step in self.steps:
            if step.schema is not None:
                schema = step.schema
        return StreamType(schema, inputs[0].timed)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def fuse(self, id: str, following: OperatorSpec, following_id: str) -> OperatorSpec | None:
        if not isinstance(following, Functions):
            return None
        return Functions((*self._steps_of(id), *following._steps_of(following_id)))

    def _steps_of(self, id: str) -> tuple[Step, ...]:
        """The steps, each of which knows whose it is: an error names the operator that the user wrote."""
        return tuple(replace(step, name=step.name or id) for step in self.steps)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _FunctionsOperator(self.steps, ctx)

    def describe(self) -> str:
        return " → ".join(getattr(step.function, "__name__", step.kind) for step in self.steps)


class _FunctionsOperator(Operator):
    def __init__(self, steps: tuple[Step, ...], ctx: OperatorContext) -> None:
        self._steps = [
            (step, Guard(step.name or ctx.operator_id, step.on_error, ctx.metrics)) for step in steps
        ]

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = rows_of(batch)
        for step, guard in self._steps:
            rows = _apply(step, guard, rows, out)
        out.emit(rows)


def _apply(step: Step, guard: Guard, batch: RowBatch, out: Collector) -> RowBatch:
    """One function over a batch. Each record is handed to the function once, also when one before it raised."""
    values = batch.values
    function = _listed(step.function) if step.kind == "flat_map" else step.function
    results: list[Any] = []
    failed: list[int] = []
    errors: list[RecordError] = []
    while len(results) < len(values):
        try:
            # list.extend keeps what it had taken when the function raises: its length tells which record it was.
            results.extend(map(function, values[len(results) :] if results else values))
        except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the record's error
            record = values[len(results)]
            error = guard.error(cause, record)
            error.__cause__ = cause
            errors.append(error)
            if step.on_error == "fail":
                guard.bad(errors, out)
            failed.append(len(results))
            results.append(None)
    if failed:
        guard.bad(errors, out)
        keep = [True] * len(values)
        for index in failed:
            keep[index] = False
        values = list(compress(values, keep))
        results = list(compress(results, keep))
        batch = RowBatch(values, None if batch.times is None else list(compress(batch.times, keep)))
    times = batch.times
    match step.kind:
        case "map":
            return RowBatch(results, times)
        case "filter":
            return RowBatch(
                list(compress(values, results)), None if times is None else list(compress(times, results))
            )
        case "flat_map":
            flat = [item for items in results for item in items]
            if times is None:
                return RowBatch(flat)
            return RowBatch(flat, [t for t, items in zip(times, results, strict=True) for _ in items])


def _listed(function: Callable[[Any], Iterable[Any]]) -> Callable[[Any], list[Any]]:
    """A function that gives any iterable, as one that gives a list: a generator's errors then belong to its record."""

    def listed(value: Any) -> list[Any]:
        return list(function(value))

    return listed


_SCALARS: dict[Any, pl.DataType] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    bytes: pl.Binary(),
    dt.datetime: EVENT_TIME_TYPE,
    dt.date: pl.Date(),
    dt.time: pl.Time(),
    dt.timedelta: pl.Duration("us"),
}


def returned_schema(function: Callable[..., Any], *, flat: bool = False) -> StreamSchema:
    """The columns a function's return annotation promises; OBJECTS without one that says.

    A dataclass, TypedDict or NamedTuple gives its fields, a scalar one column `value`; with `flat` the annotation is
    that of an iterable of those.

    >>> def length(line: str) -> int: ...
    >>> returned_schema(length)
    Schema(value: Int64)
    """
    try:
        annotation = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return OBJECTS
    if flat and annotation is not None:
        arguments = typing.get_args(annotation)
        origin = typing.get_origin(annotation)
        iterable = isinstance(origin, type) and issubclass(origin, (Iterable, Iterator))
        if not iterable or not arguments:
            return OBJECTS
        annotation = arguments[0]
    fields = _fields(annotation)
    return OBJECTS if fields is None else Schema(fields)


def _fields(annotation: Any) -> dict[str, pl.DataType] | None:
    """Columns out of an annotation; None where it does not say."""
    scalar = _column(annotation)
    if scalar is not None:
        return {"value": scalar}
    named = (
        dataclasses.is_dataclass(annotation)
        or typing.is_typeddict(annotation)
        or hasattr(annotation, "_fields")
    )
    if not named:
        return None
    fields: dict[str, pl.DataType] = {}
    for name, hint in typing.get_type_hints(annotation).items():
        column = _column(hint)
        if column is None:
            raise JobDefinitionError(
                f"field {name!r} of {_name(annotation)} is {hint}, which no column type stands for",
                hint="use str, int, float, bool, bytes, datetime, date, timedelta or a list of one, or give schema=",
            )
        fields[name] = column
    return fields


def _name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


def _column(annotation: Any) -> pl.DataType | None:
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return _column(rest[0]) if len(rest) == 1 else None
    if origin in (list, Sequence) and len(arguments) == 1:
        inner = _column(arguments[0])
        return None if inner is None else pl.List(inner)
    return None


def declared_schema(schema: object, function: Callable[..., Any], *, flat: bool) -> StreamSchema:
    """`schema=` where it is given, the return annotation otherwise."""
    if schema is None:
        return returned_schema(function, flat=flat)
    if isinstance(schema, (Schema, Objects)):
        return schema
    if isinstance(schema, Mapping):
        return Schema(cast("Mapping[str, Any]", schema))
    fields = _fields(schema)
    if fields is None:
        raise JobDefinitionError(
            f"schema={schema!r} says no columns",
            hint='write schema={"name": sf.String, …} or schema=sf.OBJECTS',
        )
    return Schema(fields)
