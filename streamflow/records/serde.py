"""Values and frames as bytes: msgpack for Python values, sealed Arrow IPC for frames. Never pickle.

Python values are msgpack with a fixed allow-list of extension types, so that reading bytes can make nothing
but plain values:

| code | type | payload |
|---|---|---|
| -1 | aware `datetime` | msgpack's own timestamp; it comes back in UTC |
| 1 | `int` beyond 64 bits | two's complement, big endian |
| 2 | naive `datetime` | microseconds since 1970, as for 1 |
| 3 | `date` | the proleptic ordinal, as for 1 |
| 4 | naive `time` | microseconds since midnight, as for 1 |
| 5 | `timedelta` | microseconds, as for 1 |
| 6 | `Decimal` | its text |
| 7 | `tuple` | a msgpack array |
| 8 | `UUID` | its 16 bytes |

`bytearray` and `memoryview` come back as `bytes`; which of two equal local times is meant (`fold`) is not kept.

A sealed frame is the magic `SFF1`, a CRC-32 of what follows, and an Arrow IPC stream: the reader of Arrow is
trusted with bytes that this program wrote, not with damaged ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from io import BytesIO
from typing import Any, Final, Literal, cast
from uuid import UUID

import msgpack  # type: ignore[import-untyped]
import polars as pl

from streamflow.errors import RecordError, StateError

__all__ = ["MAX_DEPTH", "MAX_PACKED_BYTES", "Compression", "frame_to_ipc", "ipc_to_frame", "pack", "unpack"]

MAX_DEPTH: Final = 64
"""How deep lists, tuples and dicts may nest."""
MAX_PACKED_BYTES: Final = 64 << 20
"""How long a packed value may be, unless its length is known and checked already."""

Compression = Literal["uncompressed", "lz4", "zstd"]

_BIG_INT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _TUPLE, _UUID = range(1, 9)
_msgpack: Any = msgpack  # it has no types
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  (naive on purpose)
_MICRO: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1) // _MICRO
_MAGIC: Final = b"SFF1"
_HEADER: Final = len(_MAGIC) + 4

# The first bytes of msgpack's arrays, maps and extensions. A value nests at most as deep as these occur in
# its bytes.
_OPENING: Final = frozenset([*range(0x80, 0xA0), *range(0xDC, 0xE0), *range(0xC7, 0xCA), *range(0xD4, 0xD9)])
_NOT_OPENING: Final = bytes(byte for byte in range(256) if byte not in _OPENING)

_FITS: Final = "use None, bool, int, float, str, bytes, list, tuple, dict, dates and times, Decimal or UUID"


def pack(value: object, *, bounded: bool = True) -> bytes:
    """A Python value as msgpack.

    Equal values of the same types in the same order give the same bytes. Raises RecordError for a type
    outside of the list above (subclasses included), for more than `MAX_DEPTH` levels and more than
    `MAX_PACKED_BYTES`, unless `bounded` is False.

    >>> unpack(pack({"k": (1, 2**70), "at": date(2013, 1, 1)}))
    {'k': (1, 1180591620717411303424), 'at': datetime.date(2013, 1, 1)}
    """
    try:
        data = _pack(value, 0)
    except RecordError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RecordError(f"a value cannot be stored: {error}", record=_shown(value), hint=_FITS) from error
    if bounded and len(data) > MAX_PACKED_BYTES:
        raise RecordError(
            f"a value takes {len(data)} bytes, more than {MAX_PACKED_BYTES}",
            record=_shown(value),
            hint="store a large thing in parts",
        )
    if _may_be_deep(data) and _deeper_than(value, MAX_DEPTH):
        raise RecordError(f"a value nests deeper than {MAX_DEPTH}", record=_shown(value), hint="flatten it")
    return data


def unpack(data: bytes, *, bounded: bool = True) -> Any:
    """The value that `pack` made these bytes of; raises StateError for any other bytes, and for
    more than `MAX_PACKED_BYTES`, unless `bounded` is False.

    >>> unpack(b"\\x93\\x01\\x02\\x03")
    [1, 2, 3]
    """
    try:
        if bounded and len(data) > MAX_PACKED_BYTES:
            raise _damaged(f"{len(data)} bytes, more than {MAX_PACKED_BYTES}")
        value = _unpack(data, 0)
        deep = _may_be_deep(data) and _deeper_than(value, MAX_DEPTH)
    except StateError:
        raise
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        InvalidOperation,
        msgpack.UnpackException,
    ) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    if deep:
        raise _damaged(f"nested deeper than {MAX_DEPTH}")
    return value


def frame_to_ipc(frame: pl.DataFrame, compression: Compression = "lz4") -> bytes:
    """A frame as a sealed Arrow IPC stream. About 1 ms a megabyte; raises StateError for types Arrow does not
    have.

    >>> ipc_to_frame(frame_to_ipc(pl.DataFrame({"n": [1, 2]})))["n"].to_list()
    [1, 2]
    """
    # Polars would write the addresses of Python objects.
    objects = [name for name, dtype in frame.schema.items() if dtype == pl.Object]
    if objects:
        raise StateError(
            f"columns {', '.join(objects)} hold Python objects and cannot be stored", hint="pack them first"
        )
    buffer = BytesIO()
    buffer.write(bytes(_HEADER))
    try:
        # Writing holds the frame's own lock while it waits for the interpreter: anybody else who only asks the same
        # frame for its height would wait for ever. A clone shares the data and has a lock of its own.
        frame.clone().write_ipc_stream(buffer, compression=compression)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise StateError(f"a frame of {dict(frame.schema)} cannot be stored: {error}") from error
    view = buffer.getbuffer()
    view[:_HEADER] = _MAGIC + zlib.crc32(view[_HEADER:]).to_bytes(4, "big")
    return buffer.getvalue()


def ipc_to_frame(data: bytes) -> pl.DataFrame:
    """The frame that `frame_to_ipc` made these bytes of; raises StateError for any other bytes."""
    content = memoryview(data)[_HEADER:]
    if data[: len(_MAGIC)] != _MAGIC:
        raise _damaged("not a stored frame")
    if int.from_bytes(data[len(_MAGIC) : _HEADER], "big") != zlib.crc32(content):
        raise _damaged("a stored frame's checksum does not match")
    try:
        return pl.read_ipc_stream(BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error


def _pack(value: object, depth: int) -> bytes:
    packed: bytes = _msgpack.packb(
        value, default=_EXTENSIONS_BELOW[depth], use_bin_type=True, strict_types=True, datetime=True
    )
    return packed


def _unpack(data: bytes, depth: int) -> Any:
    return _msgpack.unpackb(
        data, raw=False, strict_map_key=False, timestamp=3, use_list=True, ext_hook=_READERS_BELOW[depth]
    )


def _extension(depth: int, value: object) -> msgpack.ExtType:
    """What msgpack has no type for. Exact types only: a subclass would come back as something else."""
    kind = type(value)
    if kind is tuple:
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        return msgpack.ExtType(_TUPLE, _pack(list(value), depth + 1))  # type: ignore[call-overload]
    writer = _WRITERS.get(kind)
    if writer is None:
        raise TypeError(f"it holds a {kind.__module__}.{kind.__qualname__}")
    code, payload = writer
    return msgpack.ExtType(code, payload(value))


def _read(depth: int, code: int, payload: bytes) -> Any:
    if code == _TUPLE:
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        items: object = _unpack(payload, depth + 1)
        if not isinstance(items, list):
            raise ValueError("a tuple that is not a list of values")
        return tuple(cast("list[object]", items))
    reader = _READERS.get(code)
    if reader is None:
        raise ValueError(f"extension type {code} is not known")
    return reader(payload)


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _bytes_int(payload: bytes) -> int:
    return int.from_bytes(payload, "big", signed=True)


def _write_datetime(value: datetime) -> bytes:
    # Aware ones msgpack writes itself; those whose zone has no offset for them end here and are naive in
    # effect.
    return _int_bytes((value.replace(tzinfo=None) - _NAIVE_EPOCH) // _MICRO)


def _write_time(value: time) -> bytes:
    if value.tzinfo is not None:
        raise ValueError("a time of day with a time zone has no fixed meaning")
    return _int_bytes((datetime.combine(_NAIVE_EPOCH, value) - _NAIVE_EPOCH) // _MICRO)


def _read_time(payload: bytes) -> time:
    micros = _bytes_int(payload)
    if not 0 <= micros < _DAY:
        raise ValueError("a time of day outside of the day")
    return (_NAIVE_EPOCH + micros * _MICRO).time()


_WRITERS: Final[Mapping[type, tuple[int, Callable[[Any], bytes]]]] = {
    int: (_BIG_INT, _int_bytes),
    datetime: (_DATETIME, _write_datetime),
    date: (_DATE, lambda value: _int_bytes(value.toordinal())),
    time: (_TIME, _write_time),
    timedelta: (_TIMEDELTA, lambda value: _int_bytes(value // _MICRO)),
    Decimal: (_DECIMAL, lambda value: str(value).encode("ascii")),
    UUID: (_UUID, lambda value: value.bytes),
}
_READERS: Final[Mapping[int, Callable[[bytes], object]]] = {
    _BIG_INT: _bytes_int,
    _DATETIME: lambda payload: _NAIVE_EPOCH + _bytes_int(payload) * _MICRO,
    _DATE: lambda payload: date.fromordinal(_bytes_int(payload)),
    _TIME: _read_time,
    _TIMEDELTA: lambda payload: _bytes_int(payload) * _MICRO,
    _DECIMAL: lambda payload: Decimal(payload.decode("ascii")),
    _UUID: lambda payload: UUID(bytes=payload),
}
_EXTENSIONS_BELOW: Final = [partial(_extension, depth) for depth in range(MAX_DEPTH + 1)]
_READERS_BELOW: Final = [partial(_read, depth) for depth in range(MAX_DEPTH + 1)]


def _may_be_deep(data: bytes) -> bool:
    return len(data.translate(None, _NOT_OPENING)) > MAX_DEPTH


def _deeper_than(value: object, depth: int) -> bool:
    """Level by level, so that it needs no recursion itself."""
    level: list[object] = [value]
    for _ in range(depth):
        inner: list[object] = []
        for item in level:
            if isinstance(item, (list, tuple)):
                inner.extend(cast("Sequence[object]", item))
            elif isinstance(item, dict):
                entries = cast("Mapping[object, object]", item)
                inner.extend(entries)
                inner.extend(entries.values())
        if not inner:
            return False
        level = inner
    return any(isinstance(item, (list, tuple, dict)) for item in level)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply to show"


def _damaged(reason: str) -> StateError:
    return StateError(
        f"stored bytes cannot be read: {reason}",
        hint="they are damaged or newer than this program; restore from a checkpoint",
    )
