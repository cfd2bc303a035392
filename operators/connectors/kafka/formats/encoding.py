"""Encoders: from rows to the bytes of records, one for each format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.errors import JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.json_rows import json_lines
from streamflow.operators.connectors.kafka.formats.avro_encoding import AvroEncoder
from streamflow.operators.connectors.kafka.formats.column_casts import resolved
from streamflow.operators.connectors.kafka.formats.encoded_rows import Encoder, chosen_columns, raise_for_row
from streamflow.operators.connectors.kafka.formats.formats import KafkaFormat, checked_format
from streamflow.operators.connectors.kafka.formats.msgpack_values import MsgpackEncoder
from streamflow.operators.connectors.kafka.formats.registry_client import RegistryClient
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema, SchemaRegistry
from streamflow.operators.contract.operator import StreamType
from streamflow.operators.stateless.rows import each_row

__all__ = ["Encoder", "encoder"]


def encoder(
    format: KafkaFormat,
    input_type: StreamType,
    *,
    registry: SchemaRegistry | RegistryClient | AvroSchema | None = None,
    columns: Sequence[str] | None = None,
    topic: str | None = None,
) -> Encoder:
    """An encoder for rows of that type.

    `columns`: those of the value, None for all. `topic`: the name that a schema is registered under. Raises
    JobDefinitionError if the format cannot carry the stream.

    >>> from streamflow.core.schema import OBJECTS
    >>> encoder("json", StreamType(OBJECTS, timed=False)).encode(RowBatch([{"n": 1}]))
    [b'{"n":1}']
    """
    schema = value_schema(checked_format(format), input_type, columns)
    match format:
        case "text" | "bytes":
            return PlainEncoder(format, schema)
        case "msgpack":
            return MsgpackEncoder(schema)
        case "avro":
            return AvroEncoder(schema, registry, topic)
        case _:
            return JsonEncoder(schema)


def value_schema(format: KafkaFormat, input_type: StreamType, columns: Sequence[str] | None) -> Schema | None:
    """The columns of values, None for a stream of objects; raises JobDefinitionError if the format cannot carry
    them."""
    if format == "arrow":
        raise JobDefinitionError(
            "KafkaSink does not write Arrow: a record is one row there",
            hint="one of: json, msgpack, text, bytes, avro",
        )
    if not isinstance(input_type.schema, Schema):
        if columns is not None:
            raise JobDefinitionError(
                "this stream holds Python objects, which have no columns to choose from",
                hint="leave value= out, or give the last function a return type so that there are columns",
            )
        return None
    names = list(input_type.schema) if columns is None else list(columns)
    schema = resolved(Schema({name: input_type.schema.need(name) for name in names}))
    for name, dtype in schema.items():
        if dtype == pl.Object or (format == "json" and dtype == pl.Binary):
            raise JobDefinitionError(
                f"{format} cannot carry column {name!r} ({dtype})", hint="drop it, or cast it"
            )
    wanted = {"text": pl.String(), "bytes": pl.Binary()}.get(format)
    if wanted is not None and list(schema.values()) != [wanted]:
        raise JobDefinitionError(
            f"format {format!r} takes one column of type {wanted}, not {schema!r}",
            hint="name it with value=, or write json",
        )
    return schema


class JsonEncoder:
    """A JSON object per row, or Python values as they are; times, NaN and durations as in NDJSON files."""

    def __init__(self, schema: Schema | None) -> None:
        self._schema = schema

    def encode(self, batch: AnyBatch) -> list[bytes]:
        chosen = FrameBatch(chosen_columns(batch, self._schema)) if self._schema is not None else batch
        try:
            lines = json_lines(chosen)
        except SinkError as error:
            if isinstance(chosen, RowBatch):
                raise_for_row(chosen.values, lambda value: json_lines(RowBatch([value])))
            raise SinkError(error.message, hint=error.hint) from error
        values = lines.split(b"\n")
        values.pop()
        return values


class PlainEncoder:
    """One column, or the values of a stream of objects, as text or bytes."""

    def __init__(self, format: KafkaFormat, schema: Schema | None) -> None:
        self._schema = schema
        self._kind: type[Any] = str if format == "text" else bytes
        self._encode: Callable[[Any], bytes] = str.encode if format == "text" else bytes

    def encode(self, batch: AnyBatch) -> list[bytes]:
        values: Sequence[Any]
        if self._schema is None:
            values = list(each_row(batch))
        else:
            values = chosen_columns(batch, self._schema).to_series().to_list()
        try:
            return list(map(self._encode, values))
        except (TypeError, UnicodeEncodeError):
            raise_for_row(values, self._one)
            raise

    def _one(self, value: Any) -> bytes:
        if not isinstance(value, self._kind):
            raise SinkError(
                f"a {self._kind.__name__} was expected, this is a {type(value).__name__}: {cut(value)}",
                hint="fill nulls, or turn it into one with .map first",
            )
        try:
            return self._encode(value)
        except UnicodeEncodeError as error:
            raise SinkError(f"it holds half a surrogate pair: {cut(ascii(value))}") from error
