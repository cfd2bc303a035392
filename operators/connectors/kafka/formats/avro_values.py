"""Avro values: records as columns or dicts. The writer's schema is the registry's, by the id that each value begins
with, or a given one.

Each new schema becomes a plan once: how to read it, which fields are columns, and whether their types fit. A value
whose schema does not fit is bad, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import DecimalException
from io import BytesIO
from struct import error as StructError  # noqa: N812
from typing import Any, Final, cast

import polars as pl

from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.distribution import install_hint
from streamflow.errors import ConfigError, JobDefinitionError, cut
from streamflow.operators.connectors.files.formats.wire_types import misfits
from streamflow.operators.connectors.kafka.formats.avro_types import (
    AvroField,
    column_fields,
    recursive_or_endless,
    without_times,
)
from streamflow.operators.connectors.kafka.formats.column_casts import cast_exactly, castable
from streamflow.operators.connectors.kafka.formats.decoded_values import DecodedValues, decode_each, too_long
from streamflow.operators.connectors.kafka.formats.registry_client import RegistryClient
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema

__all__ = ["MAGIC", "AvroValues", "avro_columns", "parsed_avro"]

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
    _check_given(given)
    columns: dict[str, pl.DataType] = {}
    for name, field in column_fields(given.definition).items():
        if field is None:
            raise JobDefinitionError(
                f"the Avro field {name!r} cannot be a column",
                hint="give the columns with schema={…}, or schema=sf.OBJECTS",
            )
        columns[name] = field.dtype
    return Schema(columns)


def _check_given(given: AvroSchema) -> None:
    problem = _plan(given.definition, None).problem
    if problem is not None:
        raise JobDefinitionError(problem, hint="see the schema that was given")


class AvroValues:
    """A decoder of records into the columns of a schema; without one, into dicts. `source` gives the writers'
    schemas."""

    def __init__(
        self, schema: StreamSchema | None, source: RegistryClient | AvroSchema, max_bytes: int
    ) -> None:
        self.schema: StreamSchema = schema if schema is not None else OBJECTS
        self._columns = self.schema if isinstance(self.schema, Schema) else None
        self._limit = max_bytes
        self._plans: dict[int, _Plan] = {}
        self._registry = source if isinstance(source, RegistryClient) else None
        if isinstance(source, AvroSchema):
            self._plans[0] = _plan(source.definition, self._columns)
            if self._plans[0].problem is not None:
                raise JobDefinitionError(self._plans[0].problem, hint="see the schema that was given")

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
        return frame.filter(~pl.int_range(pl.len()).is_in(list(unfit))), unfit

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
