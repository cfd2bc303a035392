"""Arrow values: each is an IPC stream of many rows.

Columns are taken by name. A missing one is null, an unknown one is ignored; a type that differs is converted if no
value changes (a wider integer, another unit of time), and makes the value bad otherwise.

Polars notices most damage by itself, but it allocates the declared size before it looks at the bytes, and running
out of memory ends the process. So the sizes are checked first. The layout is that of Arrow's columnar format, "IPC
streaming format" and `Message.fbs`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import polars as pl

from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.errors import cut
from streamflow.operators.connectors.kafka.formats.column_casts import cast_exactly
from streamflow.operators.connectors.kafka.formats.values import TOMBSTONE, DecodedValues, too_long
from streamflow.operators.stateless.row_builder import row_dicts

__all__ = ["ArrowValues", "problem_of_stream"]

_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


class ArrowValues:
    """A decoder of streams of rows into the columns of a schema; without one, into dicts."""

    def __init__(self, schema: StreamSchema | None, max_bytes: int) -> None:
        self.schema: StreamSchema = schema if schema is not None else OBJECTS
        self._limit = max_bytes

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        frames: list[pl.DataFrame] = []
        origin: list[int] = []
        bad: list[tuple[int, str]] = []
        for index, value in enumerate(values):
            frame, problem = self._one(value)
            if frame is None:
                bad.append((index, cut(problem)))
            else:
                frames.append(frame)
                origin.extend([index] * frame.height)
        rows: pl.DataFrame | list[Any]
        if isinstance(self.schema, Schema):
            rows = pl.concat([self.schema.empty(timed=False), *frames])
        else:
            rows = [row for frame in frames for row in row_dicts(frame)]
        return DecodedValues(rows, origin, bad)

    def _one(self, value: bytes | None) -> tuple[pl.DataFrame | None, str]:
        if value is None:
            return None, TOMBSTONE
        if len(value) > self._limit:
            return None, too_long(len(value), self._limit)
        problem = problem_of_stream(value)
        if problem is not None:
            return None, problem
        try:
            frame = pl.read_ipc_stream(BytesIO(value))
            if isinstance(self.schema, Schema):
                return cast_exactly(frame, self.schema), ""
        except _ERRORS as error:
            return None, f"the Arrow stream cannot be read: {str(error).split(chr(10), 1)[0]}"
        return frame, ""


_CONTINUATION: Final = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_ROWS_PER_BYTE: Final = 8  # a boolean takes a bit
_SMALL: Final = 1024  # rows of a column without buffers (nulls) or of constant padding


def problem_of_stream(data: bytes) -> str | None:
    """The error text for wrong sizes in an Arrow IPC stream; None if it may be read.

    >>> problem_of_stream(b"no arrow")
    'the value is not an Arrow IPC stream'
    """
    try:
        return _problem(data)
    except (struct.error, IndexError, ValueError):
        return "the value is not an Arrow IPC stream"


def _problem(data: bytes) -> str | None:
    at, first = 0, True
    while at < len(data):
        marker, length = struct.unpack_from("<II", data, at)
        if marker != _CONTINUATION:
            return "the value is not an Arrow IPC stream"
        if length == 0:
            return None if not first and at + 8 == len(data) else "the Arrow stream does not end at its end"
        body = at + 8 + length
        if body > len(data):
            return "the Arrow stream is cut off"
        message = _Table.root(data[at + 8 : body])
        kind = message.number(1, "<B")
        size = message.number(3, "<q")
        if (kind == _SCHEMA) != first or kind not in (_SCHEMA, _DICTIONARY, _RECORDS):
            return "the Arrow stream does not begin with its schema"
        if size < 0 or body + size > len(data):
            return "the Arrow stream is cut off"
        if kind != _SCHEMA:
            header = message.table(2)
            problem = _problem_of_batch(header.table(1) if kind == _DICTIONARY else header, size)
            if problem is not None:
                return problem
        at, first = body + size, False
    return "the Arrow stream is cut off" if first else None


def _problem_of_batch(batch: _Table, size: int) -> str | None:
    if batch.place(3) is not None:
        return "the Arrow stream is compressed, which is refused; let Kafka compress"
    most = max(size * _ROWS_PER_BYTE, _SMALL)
    rows = batch.number(0, "<q")
    nodes = batch.pairs(1)
    buffers = batch.pairs(2)
    if not 0 <= rows <= most or any(not 0 <= length <= most for length, _ in nodes):
        return "the Arrow stream declares more rows than it holds"
    if any(offset < 0 or length < 0 or offset + length > size for offset, length in buffers):
        return "the Arrow stream declares more bytes than it holds"
    if any(not 0 <= count <= len(buffers) for count in batch.numbers(4)):
        return "the Arrow stream declares more buffers than it holds"
    return None


class _Table:
    """A FlatBuffers table: its fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        (back,) = struct.unpack_from("<i", data, at)
        self._vtable = at - back
        if not 0 <= self._vtable <= len(data) - 4:
            raise ValueError("no table")
        (self._width,) = struct.unpack_from("<H", data, self._vtable)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def place(self, field: int) -> int | None:
        """The position of a field's value; None if it has its default."""
        slot = 4 + 2 * field
        if slot + 2 > self._width:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._vtable + slot)
        return self._at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        place = self.place(field)
        return 0 if place is None else int(struct.unpack_from(form, self._data, place)[0])

    def table(self, field: int) -> _Table:
        place = self.place(field)
        if place is None:
            raise ValueError("no header")
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def numbers(self, field: int) -> list[int]:
        """A vector of 64-bit integers."""
        return self._vector(field, 1)

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers."""
        flat = self._vector(field, 2)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _vector(self, field: int, width: int) -> list[int]:
        place = self.place(field)
        if place is None:
            return []
        start = place + struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, start)
        if count > len(self._data):
            raise ValueError("a vector longer than the message")
        return list(struct.unpack_from(f"<{count * width}q", self._data, start + 4))
