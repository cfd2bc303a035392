"""Stream elements as frames, and back. Does no I/O.

A frame is the length of its body in 4 bytes, little endian, its kind in 1, and the body:

| kind | body |
|---|---|
| 1 schema | the Arrow schema of the batches that follow on this channel |
| 2 batch | an Arrow record batch |
| 3 stream | a whole Arrow stream |
| 4 no columns | the number of rows in 8 bytes |
| 5 rows | msgpack: values, times, marks |
| 6 times | an Arrow stream of the distinct times of an `End`, of which the next watermark has all |
| 7 watermark | the time in 8 bytes; with an `End`, its last time and its watermark in 8 bytes each |
| 8 barrier | the epoch in 8 bytes |
| 9 idle, 10 active | nothing |
| 11 end of input | whether it was drained, in 1 byte |

Large batches are sent in pieces, so that no frame is larger than the receiver takes and no piece keeps the event loop
busy for long.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import (
    Active,
    AnyBatch,
    Barrier,
    End,
    EndOfInput,
    Idle,
    StreamElement,
    Watermark,
)
from streamflow.core.frame import FrameBatch
from streamflow.core.serde import pack, unpack, unsendable
from streamflow.errors import RecordError, StateError, Where
from streamflow.runtime.transport.columns import ColumnReader, ColumnWriter
from streamflow.runtime.transport.port import TransportError

__all__ = ["HEADER", "Decoder", "Encoder", "Frame", "Kind", "head"]

HEADER: Final = struct.Struct("<IB")
"""The length of the body, and the kind."""
_NUMBER: Final = struct.Struct("<q")
_END: Final = struct.Struct("<qqq")
_COLUMNS_PIECE: Final = 16 << 20
_ROWS_PIECE: Final = 1 << 20
"""The estimated bytes up to which a batch is one piece: msgpack takes many times as long as Arrow."""
_TIMES_PIECE: Final = 1 << 20
"""Times of one frame."""


class Kind(IntEnum):
    """The kind of a frame. 0 is a message of the handshake."""

    GREETING = 0
    SCHEMA = 1
    BATCH = 2
    STREAM = 3
    NO_COLUMNS = 4
    ROWS = 5
    TIMES = 6
    WATERMARK = 7
    BARRIER = 8
    IDLE = 9
    ACTIVE = 10
    END_OF_INPUT = 11


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. `schema` has to be told on its channel before, unless it was the last one told there."""

    kind: Kind
    body: bytes | memoryview = b""
    schema: bytes | None = None


def head(kind: Kind, length: int) -> bytes:
    """The bytes before a body of that length."""
    return HEADER.pack(length, kind)


class Encoder:
    """The frames of elements, each at most `most` bytes. Errors name `operator`, which has sent them."""

    def __init__(self, *, most: int, operator: str = "", lz4: bool = False) -> None:
        self._most = most
        self._operator = operator
        self._columns = ColumnWriter(lz4=lz4)

    def frames(self, element: StreamElement) -> Iterator[Frame]:
        """The frames of an element, one for each piece. Raises RecordError for what cannot leave the process."""
        match element:
            case FrameBatch():
                yield from self._pieces(element, _COLUMNS_PIECE)
            case RowBatch():
                yield from self._pieces(element, _ROWS_PIECE)
            case Watermark(time, end):
                if end is None:
                    yield Frame(Kind.WATERMARK, _NUMBER.pack(time))
                    return
                yield from self._times(end.times)
                yield Frame(Kind.WATERMARK, _END.pack(time, end.last, end.watermark))
            case Barrier(epoch):
                yield Frame(Kind.BARRIER, _NUMBER.pack(epoch))
            case Idle():
                yield Frame(Kind.IDLE)
            case Active():
                yield Frame(Kind.ACTIVE)
            case EndOfInput(drained):
                yield Frame(Kind.END_OF_INPUT, bytes([drained]))

    def _pieces(self, batch: AnyBatch, aim: int) -> Iterator[Frame]:
        count = len(batch)
        each = max(1, count * min(aim, self._most) // max(batch.nbytes, 1))
        if count <= each:
            yield from self._piece(batch)
            return
        for start in range(0, count, each):
            yield from self._piece(batch.part(start, min(start + each, count)))

    def _piece(self, batch: AnyBatch) -> Iterator[Frame]:
        try:
            frame = self._columns_of(batch) if isinstance(batch, FrameBatch) else self._rows_of(batch)
        except RecordError as error:
            raise error.at(Where(operator=self._operator)) from error.__cause__
        if len(frame.body) <= self._most:
            yield frame
        elif (count := len(batch)) > 1:
            yield from self._piece(batch.part(0, count // 2))
            yield from self._piece(batch.part(count // 2, count))
        else:
            raise RecordError(
                f"a record takes {len(frame.body)} bytes, more than the {self._most} of a message to another process",
                where=Where(operator=self._operator),
                hint="raise channel_bytes, or run the job in one process",
            )

    def _columns_of(self, batch: FrameBatch) -> Frame:
        if not batch.frame.width:
            return Frame(Kind.NO_COLUMNS, _NUMBER.pack(len(batch)))
        schema, body = self._columns.write(batch.frame)
        return Frame(Kind.STREAM if schema is None else Kind.BATCH, body, schema)

    def _rows_of(self, batch: RowBatch) -> Frame:
        values = batch.values if isinstance(batch.values, list) else list(batch.values)
        content = [values, _raw(batch.times), _raw(batch.marks)]
        try:
            return Frame(Kind.ROWS, pack(content, bounded=False))
        except RecordError as error:
            raise unsendable(values, error) from error

    def _times(self, times: pl.Series | None) -> Iterator[Frame]:
        if times is None:
            return
        each = max(1, min(_TIMES_PIECE, self._most // 16))
        for start in range(0, max(len(times), 1), each):
            part = times[start : start + each].to_frame("times")
            yield Frame(Kind.TIMES, self._columns.whole(part))


class Decoder:
    """The elements of one channel's frames. Raises TransportError for a frame that is none."""

    def __init__(self) -> None:
        self._columns = ColumnReader()
        self._times: list[pl.Series] = []

    def element(self, kind: int, body: memoryview, *, lasts: bool = True) -> StreamElement | None:
        """The element of a frame, or None if it only prepares the next. `lasts`: `body` will not be written again."""
        try:
            return self._element(kind, body, lasts)
        except (StateError, struct.error, ValueError, TypeError) as error:
            raise TransportError(f"a frame of kind {kind} came damaged: {error}") from error

    def _element(self, kind: int, body: memoryview, lasts: bool) -> StreamElement | None:
        match kind:
            case Kind.SCHEMA:
                self._columns.schema(bytes(body))
                return None
            case Kind.BATCH:
                return FrameBatch(self._columns.batch(body if lasts else bytes(body)))
            case Kind.STREAM:
                return FrameBatch(self._columns.stream(bytes(body)))
            case Kind.NO_COLUMNS:
                return FrameBatch(pl.DataFrame(height=_number(body)))
            case Kind.ROWS:
                return _rows(body)
            case Kind.TIMES:
                self._times.append(self._columns.stream(bytes(body)).to_series())
                return None
            case Kind.WATERMARK:
                return self._watermark(body)
            case Kind.BARRIER:
                return Barrier(_number(body))
            case Kind.IDLE:
                return Idle()
            case Kind.ACTIVE:
                return Active()
            case Kind.END_OF_INPUT:
                return EndOfInput(drained=body[0] != 0) if len(body) == 1 else _wrong(kind)
            case _:
                return _wrong(kind)

    def _watermark(self, body: memoryview) -> Watermark:
        if len(body) == _NUMBER.size:
            return Watermark(_number(body))
        time, last, watermark = _END.unpack(body)
        times, self._times = self._times, []
        return Watermark(time, End(last, watermark, pl.concat(times) if times else None))


def _number(body: memoryview) -> int:
    number: int = _NUMBER.unpack(body)[0]
    return number


def _raw(times: Sequence[int] | None) -> bytes | None:
    return None if times is None else array("q", times).tobytes()


def _numbers(raw: bytes | None) -> list[int] | None:
    if raw is None:
        return None
    numbers = array("q")
    numbers.frombytes(raw)
    return numbers.tolist()


def _rows(body: memoryview) -> RowBatch:
    content: tuple[list[Any], bytes | None, bytes | None] = unpack(bytes(body), bounded=False)
    values, times, marks = content
    if type(values) is not list:
        raise ValueError("rows are values, times and marks")
    return RowBatch(values, _numbers(times), _numbers(marks))


def _wrong(kind: int) -> StreamElement:
    raise TransportError(f"a frame of kind {kind} is none of this version's")
