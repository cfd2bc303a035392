"""Plain values: text (UTF-8) or bytes, as one column or as Python's `str` and `bytes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from streamflow.core.schema import Objects, Schema, StreamSchema
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.formats.decoded_values import DecodedValues, decode_each, kept
from streamflow.operators.connectors.kafka.formats.formats import VALUE

__all__ = ["PlainValues", "plain_schema"]

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
