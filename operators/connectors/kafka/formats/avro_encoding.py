"""Rows as Avro: with the schema of their columns, registered under the topic's subject, or with a given one."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final, cast

import msgspec
import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.schema import Schema
from streamflow.errors import JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.kafka.formats.avro_types import avro_record, without_times
from streamflow.operators.connectors.kafka.formats.avro_values import MAGIC, parsed_avro
from streamflow.operators.connectors.kafka.formats.encoded_rows import chosen_columns, raise_for_row
from streamflow.operators.connectors.kafka.formats.registry_client import RegistryClient
from streamflow.operators.connectors.kafka.schema_registry import AvroSchema, SchemaRegistry
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.stateless.rows import each_row

__all__ = ["AvroEncoder"]

_ERRORS: Final = (ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError, AttributeError)
_RECORD: Final = "Value"


class AvroEncoder:
    """An encoder of one record per row. With a registry each value begins with the id of the schema, which is
    registered when the first batch is encoded; that blocks."""

    def __init__(
        self,
        schema: Schema | None,
        source: SchemaRegistry | RegistryClient | AvroSchema | None,
        topic: str | None,
    ) -> None:
        if source is None:
            raise JobDefinitionError(
                "Avro needs a schema registry, or a schema that both sides know",
                hint="registry=sf.SchemaRegistry(…), or registry=sf.AvroSchema(…)",
            )
        self._schema = schema
        self._given = source if isinstance(source, AvroSchema) else None
        self._registry = RegistryClient(source) if isinstance(source, SchemaRegistry) else None
        if isinstance(source, RegistryClient):
            self._registry = source
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
        except _ERRORS as error:
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
        except _ERRORS as error:
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
