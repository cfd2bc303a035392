"""Plain values: text (UTF-8) or bytes, from and to one column or Python's `str` and `bytes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.schema import Schema, StreamSchema
from streamflow.errors import JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.kafka.formats.values import (
    VALUE,
    EachValue,
    KafkaFormat,
    chosen_columns,
    raise_for_row,
)
from streamflow.operators.stateless.rows import each_row

__all__ = ["PlainEncoder", "plain_values"]

_NOT_UTF8 = "the value is not valid UTF-8"


def plain_values(format: Literal["text", "bytes"], schema: StreamSchema | None, max_bytes: int) -> EachValue:
    """A decoder of each value as text or bytes, in one column: the schema's, or `value`. Raises JobDefinitionError for
    any other schema.

    >>> plain_values("text", None, 100).schema
    Schema(value: String)
    """
    dtype = pl.String() if format == "text" else pl.Binary()
    if schema is None:
        schema = Schema({VALUE: dtype})
    elif isinstance(schema, Schema) and list(schema.values()) != [dtype]:
        raise JobDefinitionError(
            f"format {format!r} has one column of type {dtype}, not {schema!r}",
            hint=f'leave the schema out (the column is called "{VALUE}") or name one column',
        )
    decode_one: Callable[[bytes], Any] = bytes.decode if format == "text" else bytes
    return EachValue(schema, max_bytes, decode_one, (UnicodeDecodeError,), lambda _: _NOT_UTF8)


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
