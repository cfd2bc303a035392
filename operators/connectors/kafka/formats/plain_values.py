"""Plain values: text (UTF-8) or bytes, from and to one column or Python's `str` and `bytes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.schema import Objects, Schema, StreamSchema
from streamflow.errors import JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.kafka.formats.values import (
    VALUE,
    DecodedValues,
    KafkaFormat,
    chosen_columns,
    decode_each,
    kept,
    raise_for_row,
)
from streamflow.operators.stateless.rows import each_row

__all__ = ["PlainEncoder", "PlainValues", "plain_schema"]

_NOT_UTF8 = "the value is not valid UTF-8"


def plain_schema(schema: StreamSchema | None, dtype: pl.DataType, format: str) -> StreamSchema:
    """One column of that type: the schema's, or `value`. Raises JobDefinitionError for any other schema.

    >>> plain_schema(None, pl.String(), "text")
    Schema(value: String)
    """
    if schema is None:
        return Schema({VALUE: dtype})
    if isinstance(schema, Schema) and list(schema.values()) != [dtype]:
        raise JobDefinitionError(
            f"format {format!r} has one column of type {dtype}, not {schema!r}",
            hint=f'leave the schema out (the column is called "{VALUE}") or name one column',
        )
    return schema


class PlainValues:
    """A decoder of each value as text or bytes."""

    def __init__(self, schema: StreamSchema, max_bytes: int, *, text: bool) -> None:
        self.schema: StreamSchema = schema
        self._limit = max_bytes
        self._decode: Callable[[bytes], Any] = bytes.decode if text else bytes

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        rows, bad = decode_each(values, self._limit, self._decode, (UnicodeDecodeError,), lambda _: _NOT_UTF8)
        if isinstance(self.schema, Objects):
            return DecodedValues(rows, kept(len(values), bad), bad)
        ((name, dtype),) = self.schema.items()
        return DecodedValues(pl.DataFrame({name: rows}, schema={name: dtype}), kept(len(values), bad), bad)


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
