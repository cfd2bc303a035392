"""Decoders: from the bytes of records to rows, one for each format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.schema import Schema, StreamSchema
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.formats.arrow_values import ArrowValues
from streamflow.operators.connectors.kafka.formats.avro_values import AvroValues, avro_columns
from streamflow.operators.connectors.kafka.formats.column_casts import resolved
from streamflow.operators.connectors.kafka.formats.decoded_values import DecodedValues, Decoder
from streamflow.operators.connectors.kafka.formats.formats import KafkaFormat, checked_format
from streamflow.operators.connectors.kafka.formats.json_values import JsonColumns, JsonObjects
from streamflow.operators.connectors.kafka.formats.msgpack_values import MsgpackColumns, MsgpackObjects
from streamflow.operators.connectors.kafka.formats.plain_values import PlainValues, plain_schema
from streamflow.operators.connectors.kafka.formats.registry_client import RegistryClient
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema, SchemaRegistry

__all__ = ["DecodedValues", "Decoder", "decoder"]

_MAX_BYTES: Final = 1 << 20


def decoder(
    format: KafkaFormat,
    schema: StreamSchema | None,
    *,
    registry: SchemaRegistry | RegistryClient | AvroSchema | None = None,
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
    match checked_format(format):
        case "text":
            return PlainValues(plain_schema(schema, pl.String(), format), max_bytes, text=True)
        case "bytes":
            return PlainValues(plain_schema(schema, pl.Binary(), format), max_bytes, text=False)
        case "arrow":
            return ArrowValues(
                _projected(schema, columns) if isinstance(schema, Schema) else schema, max_bytes
            )
        case "msgpack":
            if isinstance(schema, Schema):
                return MsgpackColumns(_projected(schema, columns), max_bytes)
            return MsgpackObjects(max_bytes)
        case "avro":
            return _avro(schema, registry, max_bytes, columns)
        case "json":
            if isinstance(schema, Schema):
                return JsonColumns(_projected(schema, columns), max_bytes)
            return JsonObjects(max_bytes)


def _projected(schema: Schema, columns: Sequence[str] | None) -> Schema:
    """The columns that are read; one column if none is read, since rows have to be counted."""
    schema = resolved(schema)
    if columns is None:
        return schema
    chosen = {name: dtype for name, dtype in schema.items() if name in columns}
    return Schema(chosen or dict(list(schema.items())[:1]))


def _avro(
    schema: StreamSchema | None,
    registry: SchemaRegistry | RegistryClient | AvroSchema | None,
    max_bytes: int,
    columns: Sequence[str] | None,
) -> Decoder:
    if registry is None:
        raise JobDefinitionError(
            "Avro needs a schema registry, or a schema that both sides know",
            hint="registry=sf.SchemaRegistry(…), or registry=sf.AvroSchema(…)",
        )
    if schema is None and isinstance(registry, AvroSchema):
        schema = avro_columns(registry)
    source = RegistryClient(registry) if isinstance(registry, SchemaRegistry) else registry
    return AvroValues(
        _projected(schema, columns) if isinstance(schema, Schema) else schema, source, max_bytes
    )
