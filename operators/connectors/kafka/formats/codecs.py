"""Codecs: the decoder from the bytes of records to rows, and the encoder back, for each format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.schema import Schema, StreamSchema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.formats.arrow_values import ArrowValues
from streamflow.operators.connectors.kafka.formats.avro_values import (
    AvroEncoder,
    AvroSource,
    AvroValues,
    avro_columns,
)
from streamflow.operators.connectors.kafka.formats.column_casts import projected, resolved
from streamflow.operators.connectors.kafka.formats.debezium_values import DebeziumValues
from streamflow.operators.connectors.kafka.formats.json_values import JsonColumns, JsonEncoder, json_objects
from streamflow.operators.connectors.kafka.formats.msgpack_values import (
    MsgpackColumns,
    MsgpackEncoder,
    msgpack_objects,
)
from streamflow.operators.connectors.kafka.formats.plain_values import PlainEncoder, plain_values
from streamflow.operators.connectors.kafka.formats.values import (
    Decoder,
    Encoder,
    KafkaFormat,
    checked_format,
)
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema

__all__ = ["decoder", "encoder"]

_MAX_BYTES: Final = 1 << 20


def decoder(
    format: KafkaFormat,
    schema: StreamSchema | None,
    *,
    registry: AvroSource = None,
    max_bytes: int = _MAX_BYTES,
    columns: Sequence[str] | None = None,
) -> Decoder:
    """A decoder for values of that format.

    `schema`: columns, OBJECTS, or None for the format's own (text and bytes: the column `value`; a given Avro
    schema: its fields; others: Python objects). `registry`: for Avro, a schema registry or the schema agreed on.
    `columns`: the only columns that are read; `Decoder.schema` has only these then. `max_bytes`: longer values are
    bad. Raises JobDefinitionError if format and schema do not fit.

    >>> decoder("json", Schema({"n": pl.Int64})).decode([b'{"n":1}', b'{"n":']).bad
    [(1, 'the value is not valid JSON (Input data was truncated)')]
    """
    checked_format(format)
    if format == "avro" and schema is None and isinstance(registry, AvroSchema):
        schema = avro_columns(registry)
    if format == "debezium":
        return DebeziumValues(schema, max_bytes, columns)
    if isinstance(schema, Schema) and format not in ("text", "bytes"):
        schema = projected(resolved(schema), columns)
    match format:
        case "text" | "bytes":
            return plain_values(format, schema, max_bytes)
        case "arrow":
            return ArrowValues(schema, max_bytes)
        case "avro":
            return AvroValues(schema, registry, max_bytes)
        case "msgpack":
            return (
                MsgpackColumns(schema, max_bytes)
                if isinstance(schema, Schema)
                else msgpack_objects(max_bytes)
            )
        case _:
            return JsonColumns(schema, max_bytes) if isinstance(schema, Schema) else json_objects(max_bytes)


def encoder(
    format: KafkaFormat,
    input_type: StreamType,
    *,
    registry: AvroSource = None,
    columns: Sequence[str] | None = None,
    topic: str | None = None,
) -> Encoder:
    """An encoder for rows of that type.

    `columns`: those of the value, None for all. `topic`: the name that a schema is registered under. Raises
    JobDefinitionError if the format cannot carry the stream.

    >>> from streamflow.core.batch import RowBatch
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
    if format in ("arrow", "debezium"):
        name = "Arrow: a record" if format == "arrow" else "Debezium's changes: a value"
        raise JobDefinitionError(
            f"KafkaSink does not write {name} is one row there",
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
