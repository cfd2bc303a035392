"""Avro values: records as columns or dicts, and rows as records.

The writer's schema is the registry's, by the id that each value begins with, or a given one. Each new schema becomes a
plan once: how to read it, which fields are columns, and whether their types fit. A value whose schema does not fit is
bad, whatever it holds. Rows are written with the schema of their columns, registered under the topic's subject, or
with a given one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import DecimalException
from io import BytesIO
from struct import error as StructError  # noqa: N812
from typing import Any, Final, cast

import msgspec
import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.distribution import install_hint
from streamflow.errors import ConfigError, JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.files.formats.wire_types import misfits, without_rows
from streamflow.operators.connectors.kafka.formats.avro_types import (
    AvroField,
    avro_record,
    column_fields,
    recursive_or_endless,
    without_times,
)
from streamflow.operators.connectors.kafka.formats.column_casts import cast_exactly, castable
from streamflow.operators.connectors.kafka.formats.values import (
    DecodedValues,
    chosen_columns,
    decode_each,
    raise_for_row,
    too_long,
)
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema, RegistryClient, SchemaRegistry
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.stateless.rows import each_row

__all__ = ["MAGIC", "AvroEncoder", "AvroSource", "AvroValues", "avro_columns", "parsed_avro"]

AvroSource = SchemaRegistry | RegistryClient | AvroSchema | None
"""The origin of schemas: a registry, its client, or the schema that both sides agree on."""

MAGIC: Final = 0
_PREFIX: Final = 5
_ERRORS: Final = (
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    DecimalException,
    StructError,
    RecursionError,
    MemoryError,
)
_NOT_CARRIED: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    ArithmeticError,
    AttributeError,
)
_RECORD: Final = "Value"
_FRAME_ERRORS: Final = (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The plan for values of one schema; `problem` is the reason not to read them."""

    parsed: Any = None
    fields: dict[str, AvroField] | None = None
    problem: str | None = None


def parsed_avro(definition: Any) -> Any:
    """A schema for fastavro. Raises ConfigError if the extra is not installed, ValueError for an invalid schema."""
    try:
        from fastavro import parse_schema
        from fastavro.schema import SchemaParseException, UnknownType
    except ImportError as error:
        raise ConfigError("Avro needs fastavro", hint=install_hint("avro")) from error
    try:
        return parse_schema(definition)
    except (SchemaParseException, UnknownType, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no Avro schema: {type(error).__name__} {error}") from error


def avro_columns(given: AvroSchema) -> Schema:
    """The columns of a given schema; raises JobDefinitionError for fields that cannot be columns.

    >>> avro_columns(AvroSchema({"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}))
    Schema(n: Int64)
    """
    _given_plan(given, None)
    columns: dict[str, pl.DataType] = {}
    for name, field in column_fields(given.definition).items():
        if field is None:
            raise JobDefinitionError(
                f"the Avro field {name!r} cannot be a column",
                hint="give the columns with schema={…}, or schema=sf.OBJECTS",
            )
        columns[name] = field.dtype
    return Schema(columns)


def _given_plan(given: AvroSchema, columns: Schema | None) -> _Plan:
    plan = _plan(given.definition, columns)
    if plan.problem is not None:
        raise JobDefinitionError(plan.problem, hint="see the schema that was given")
    return plan


def _source_of(registry: AvroSource) -> RegistryClient | AvroSchema:
    if registry is None:
        raise JobDefinitionError(
            "Avro needs a schema registry, or a schema that both sides know",
            hint="registry=sf.SchemaRegistry(…), or registry=sf.AvroSchema(…)",
        )
    return RegistryClient(registry) if isinstance(registry, SchemaRegistry) else registry


class AvroValues:
    """A decoder of records into the columns of a schema; without one, into dicts. `registry` gives the writers'
    schemas."""

    def __init__(self, schema: StreamSchema | None, registry: AvroSource, max_bytes: int) -> None:
        source = _source_of(registry)
        self.schema: StreamSchema = schema if schema is not None else OBJECTS
        self._columns = self.schema if isinstance(self.schema, Schema) else None
        self._limit = max_bytes
        self._plans: dict[int, _Plan] = {}
        self._registry = source if isinstance(source, RegistryClient) else None
        if isinstance(source, AvroSchema):
            self._plans[0] = _given_plan(source, self._columns)

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        groups: dict[int, list[int]] = {}
        bad: list[tuple[int, str]] = []
        for index, value in enumerate(values):
            id, problem = self._schema_id(value)
            if problem is None:
                groups.setdefault(id, []).append(index)
            else:
                bad.append((index, problem))
        parts: list[tuple[list[int], pl.DataFrame | list[Any]]] = []
        for id, places in groups.items():
            rows, wrong = self._group(id, [values[place] for place in places])
            lost = {at for at, _ in wrong}
            bad.extend((places[at], problem) for at, problem in wrong)
            parts.append(([place for at, place in enumerate(places) if at not in lost], rows))
        bad.sort()
        origin = [place for places, _ in parts for place in places]
        order = sorted(range(len(origin)), key=origin.__getitem__) if len(parts) > 1 else None
        rows = self._joined([rows for _, rows in parts], order)
        return DecodedValues(rows, sorted(origin) if bad else None, bad)

    def _joined(self, parts: Sequence[Any], order: Sequence[int] | None) -> Any:
        if self._columns is not None:
            frame = pl.concat([self._columns.empty(timed=False), *parts])
            return frame if order is None else frame[list(order)]
        rows = [row for part in parts for row in part]
        return rows if order is None else [rows[at] for at in order]

    def _schema_id(self, value: bytes | None) -> tuple[int, str | None]:
        if self._registry is None or value is None:
            return 0, None
        if len(value) > self._limit:
            return 0, too_long(len(value), self._limit)
        if len(value) < _PREFIX or value[0] != MAGIC:
            return 0, "the value does not begin with the id of a schema"
        return int.from_bytes(value[1:_PREFIX], "big"), None

    def _group(
        self, id: int, values: Sequence[bytes | None]
    ) -> tuple[pl.DataFrame | list[Any], list[tuple[int, str]]]:
        import fastavro

        schemaless_reader = cast(Any, fastavro).schemaless_reader
        plan = self._plan_of(id)
        if plan.problem is not None:
            problem = cut(plan.problem)
            rows: list[Any] = []
            bad = [(at, problem) for at in range(len(values))]
        else:
            skip = 0 if self._registry is None else _PREFIX

            def read(value: bytes) -> Any:
                stream = BytesIO(value)
                stream.seek(skip)
                row = schemaless_reader(stream, plan.parsed, None)
                if stream.tell() != len(value):
                    raise ValueError("there are bytes left behind it")
                return row

            rows, bad = decode_each(values, self._limit, read, _ERRORS, _explain)
        if self._columns is None:
            return rows, bad
        if plan.fields is None:
            return self._columns.empty(timed=False), bad
        frame, unfit = self._frame(rows, plan.fields, self._columns)
        lost = {at for at, _ in bad}
        places = [at for at in range(len(values)) if at not in lost]
        return frame, sorted([*bad, *((places[at], problem) for at, problem in unfit.items())])

    def _frame(
        self, rows: Sequence[Any], fields: dict[str, AvroField], columns: Schema
    ) -> tuple[pl.DataFrame, dict[int, str]]:
        wire = pl.DataFrame(
            [_series(name, [row[name] for row in rows], field) for name, field in fields.items()]
        )
        # Without a field there is nothing to tell the number of rows from.
        wire = wire if wire.width else pl.DataFrame({"": pl.Series([None] * len(rows), dtype=pl.Null)})
        try:
            return cast_exactly(wire, columns), {}
        except _FRAME_ERRORS:
            frame = cast_exactly(wire, columns, strict=False)
        unfit = misfits(wire.select(list(fields)), frame.select(list(fields)))
        return without_rows(frame, unfit), unfit

    def _plan_of(self, id: int) -> _Plan:
        plan = self._plans.get(id)
        if plan is None:
            assert self._registry is not None
            definition = self._registry.schema(id)
            if definition is None:
                return _Plan(problem=f"the schema registry has no schema {id}")
            plan = self._plans[id] = _plan(definition, self._columns)
        return plan


def _series(name: str, values: list[Any], field: AvroField) -> pl.Series:
    series = pl.Series(name, values, dtype=field.raw)
    if isinstance(field.dtype, pl.Time):
        nanoseconds = series.cast(pl.Int64) * field.scale
        # Beyond a day there is no time of day: null, and so bad.
        day = nanoseconds.is_between(0, 86_400_000_000_000 - 1)
        return nanoseconds.to_frame().select(pl.when(day).then(pl.col(name)).alias(name))[name].cast(pl.Time)
    return series if field.raw == field.dtype else series.cast(field.dtype)


def _plan(definition: Any, columns: Schema | None) -> _Plan:
    try:
        problem = recursive_or_endless(definition)
        if problem is not None:
            return _Plan(problem=problem)
        parsed = parsed_avro(without_times(definition) if columns is not None else definition)
        if columns is None:
            return _Plan(parsed)
        there = column_fields(definition)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return _Plan(problem=f"the Avro schema cannot be used: {type(error).__name__} {error}")
    fields: dict[str, AvroField] = {}
    for name, wanted in columns.items():
        if name not in there:
            continue
        field = there[name]
        if field is None or not castable(field.dtype, wanted):
            kind = "something that cannot be a column" if field is None else str(field.dtype)
            return _Plan(problem=f"its schema has {kind} as field {name!r} where {wanted} was expected")
        fields[name] = field
    return _Plan(parsed, fields)


def _explain(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the value holds text that is not valid UTF-8"
    return f"the value does not fit its Avro schema ({type(error).__name__}: {error})"


class AvroEncoder:
    """An encoder of one record per row. With a registry each value begins with the id of the schema, which is
    registered when the first batch is encoded; that blocks."""

    def __init__(self, schema: Schema | None, registry: AvroSource, topic: str | None) -> None:
        source = _source_of(registry)
        self._schema = schema
        self._given = source if isinstance(source, AvroSchema) else None
        self._registry = source if isinstance(source, RegistryClient) else None
        self._subject = f"{topic}-value"
        if self._registry is not None and topic is None:
            raise JobDefinitionError("a schema is registered under a topic's name", hint="say topic=")
        if self._given is not None:
            definition: Any = self._given.definition
        elif schema is not None:
            definition = avro_record(schema, _RECORD)
        else:
            raise JobDefinitionError(
                "a stream of Python objects has no Avro schema",
                hint="give the last function a return type so that there are columns, or an AvroSchema",
            )
        self._text = msgspec.json.encode(definition).decode()
        try:
            # Rows with a schema of their own are written as the integers that times are on the wire.
            self._parsed = parsed_avro(definition if self._given is not None else without_times(definition))
        except ValueError as error:
            raise JobDefinitionError(str(error), hint="see the schema that was given") from error

    def encode(self, batch: AnyBatch) -> list[bytes]:
        prefix = b""
        if self._registry is not None:
            id = self._registry.register(self._subject, self._text)
            prefix = bytes([MAGIC]) + id.to_bytes(4, "big")
        rows = self._rows(batch)
        try:
            return [self._one(row, prefix) for row in rows]
        except _NOT_CARRIED as error:
            raise_for_row(rows, self._check)
            raise SinkError(f"Avro cannot carry a value of this stream: {error}") from error

    def _rows(self, batch: AnyBatch) -> list[Any]:
        if self._schema is None:
            return list(each_row(batch))
        frame = chosen_columns(batch, self._schema)
        return list(row_dicts(_as_given(frame) if self._given is not None else _as_integers(frame)))

    def _one(self, row: Any, prefix: bytes) -> bytes:
        import fastavro

        stream = BytesIO()
        stream.write(prefix)
        cast(Any, fastavro).schemaless_writer(stream, self._parsed, row)
        return stream.getvalue()

    def _check(self, row: Any) -> None:
        try:
            self._one(row, b"")
        except _NOT_CARRIED as error:
            raise SinkError(
                f"it does not fit the Avro schema: {type(error).__name__} {error}: {cut(row)}",
                hint="see the types of its fields",
            ) from error


def _integers(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, (pl.Datetime, pl.Duration)):
        return pl.Int64()
    if isinstance(dtype, pl.Date):
        return pl.Int32()
    if isinstance(dtype, (pl.List, pl.Array)):
        return pl.List(_integers(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _integers(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return dtype


def _as_integers(frame: pl.DataFrame) -> pl.DataFrame:
    changed: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Time):
            changed.append(pl.col(name).cast(pl.Int64) // 1_000)
        elif (plain := _integers(dtype)) != dtype:
            changed.append(pl.col(name).cast(plain))
    return frame.with_columns(changed) if changed else frame


def _as_given(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame that fastavro takes for any schema: a time without a zone is UTC here, and the machine's local time
    for fastavro; a duration is an integer."""
    changed: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            changed.append(pl.col(name).dt.replace_time_zone("UTC"))
        elif isinstance(dtype, pl.Duration):
            changed.append(pl.col(name).cast(pl.Int64))
    return frame.with_columns(changed) if changed else frame
