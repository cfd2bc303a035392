"""Values and frames as bytes: msgpack for Python values, sealed Arrow IPC for frames. Never pickle.

Python values are msgpack with a fixed allow-list of extension types, so that reading bytes can make nothing
but plain values:

| code | type | payload |
|---|---|---|
| -1 | `datetime` in UTC | msgpack's own timestamp |
| 1 | `int` beyond 64 bits | two's complement, big endian |
| 2 | naive `datetime` | microseconds since 1970, as for 1 |
| 3 | `date` | the proleptic ordinal, as for 1 |
| 4 | naive `time` | microseconds since midnight, as for 1 |
| 5 | `timedelta` | microseconds, as for 1 |
| 6 | `Decimal` | its text |
| 7 | `tuple` | a msgpack array |
| 8 | `UUID` | its 16 bytes |
| 9 | `datetime` in a named zone | `fold`, local microseconds since 1970 in 8 bytes, the zone's name |
| 10 | `datetime` at an offset | local microseconds since 1970 in 8 bytes, the offset in microseconds, as for 1 |

`bytearray` and `memoryview` come back as `bytes`; `fold` of a naive time is not kept. UTC comes back as
`timezone.utc`, however it was written; a zone that is no `ZoneInfo` with a known name as the offset that it had then.

A sealed frame is the magic `SFF1`, a CRC-32 of what follows, and an Arrow IPC stream: the reader of Arrow is
trusted with bytes that this program wrote, not with damaged ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from io import BytesIO
from typing import Any, Final, Literal, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack  # type: ignore[import-untyped]
import polars as pl

from streamflow.errors import RecordError, StateError, represented

__all__ = [
    "MAX_DEPTH",
    "MAX_PACKED_BYTES",
    "Compression",
    "deeper_than",
    "frame_to_ipc",
    "ipc_to_frame",
    "pack",
    "unpack",
    "unsendable",
    "without_stream",
]

MAX_DEPTH: Final = 64
"""The deepest nesting of lists, tuples and dicts."""
MAX_PACKED_BYTES: Final = 64 << 20
"""The largest packed value in bytes, unless its length is known and checked already."""

Compression = Literal["uncompressed", "lz4", "zstd"]

_BIG_INT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _TUPLE, _UUID, _IN_ZONE, _AT_OFFSET = range(1, 11)
_msgpack: Any = msgpack  # it has no types
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  (naive on purpose)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZONE_NAME: Final = 64
"""The longest name of a zone."""
_MICRO: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1) // _MICRO
_MAGIC: Final = b"SFF1"
_HEADER: Final = len(_MAGIC) + 4

# The first bytes of msgpack's arrays, maps and extensions. A value nests at most as deep as these occur in
# its bytes.
_OPENING: Final = frozenset([*range(0x80, 0xA0), *range(0xDC, 0xE0), *range(0xC7, 0xCA), *range(0xD4, 0xD9)])
_NOT_OPENING: Final = bytes(byte for byte in range(256) if byte not in _OPENING)
_PORTION: Final = 64 << 10

_FITS: Final = "use None, bool, int, float, str, bytes, list, tuple, dict, dates and times, Decimal or UUID"


def pack(value: object, *, bounded: bool = True, zones: bool = True) -> bytes:
    """A Python value as msgpack.

    Equal values of the same types in the same order give the same bytes; times in different zones do so only without
    `zones`, and then come back in UTC. Raises RecordError for a type outside of the list above (subclasses included),
    for more than `MAX_DEPTH` levels and more than `MAX_PACKED_BYTES`, unless `bounded` is False.

    >>> unpack(pack({"k": (1, 2**70), "at": date(2013, 1, 1)}))
    {'k': (1, 1180591620717411303424), 'at': datetime.date(2013, 1, 1)}
    """
    try:
        data = _pack(value, _BELOW[0] if zones else _BELOW_IN_UTC[0])
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
    if _may_be_deep(data) and deeper_than(value, MAX_DEPTH):
        raise RecordError(f"a value nests deeper than {MAX_DEPTH}", record=_shown(value), hint="flatten it")
    return data


def unpack(data: bytes, *, bounded: bool = True) -> Any:
    """The value that `pack` made these bytes of; raises StateError for any other bytes, and for more than
    `MAX_PACKED_BYTES` unless `bounded` is False.

    >>> unpack(b"\\x93\\x01\\x02\\x03")
    [1, 2, 3]
    """
    try:
        if bounded and len(data) > MAX_PACKED_BYTES:
            raise _damaged(f"{len(data)} bytes, more than {MAX_PACKED_BYTES}")
        value = _unpack(data, 0)
        deep = _may_be_deep(data) and deeper_than(value, MAX_DEPTH)
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


def unsendable(values: Sequence[Any], error: RecordError) -> RecordError:
    """The error of the first of these records that cannot leave the process, for which `pack` has raised `error`."""
    for value in values:
        try:
            pack(value, bounded=False)
        except RecordError as unfit:
            error, record = unfit, value
            break
    else:
        record = None
    return RecordError(
        f"a record cannot be sent to another process: {error.message.removeprefix('a value cannot be stored: ')}",
        record=record,
        hint=f"{error.hint}, or run the job in one process",
    )


def without_stream(types: Mapping[str, pl.DataType]) -> tuple[str, str] | None:
    """The first column that an Arrow stream does not bring, and its values in words; None if it brings them all. Polars
    would write the addresses of Python objects, and arrays that it does not read.

    >>> without_stream({"n": pl.Int64(), "a": pl.List(pl.Array(pl.Int8, 0))})
    ('a', 'arrays of no values')
    """
    return next(
        ((name, held) for name, dtype in types.items() if (held := _left_out(dtype)) is not None), None
    )


def _left_out(dtype: pl.DataType) -> str | None:
    match dtype:
        case pl.Object():
            return "Python objects"
        case pl.Array() if 0 in dtype.shape:
            return "arrays of no values"
        case pl.Array() | pl.List():
            return _left_out(dtype.inner)  # type: ignore[arg-type]
        case pl.Struct():
            return next(filter(None, (_left_out(field.dtype) for field in dtype.fields)), None)  # type: ignore[arg-type]
        case _:
            return None


def frame_to_ipc(frame: pl.DataFrame, compression: Compression = "lz4") -> bytes:
    """A frame as a sealed Arrow IPC stream. About 1 ms a megabyte; raises StateError for types Arrow does not
    have.

    >>> ipc_to_frame(frame_to_ipc(pl.DataFrame({"n": [1, 2]})))["n"].to_list()
    [1, 2]
    """
    if (found := without_stream(frame.schema)) is not None:
        name, held = found
        raise StateError(f"column {name!r} holds {held} and cannot be stored", hint="pack them first")
    buffer = BytesIO()
    buffer.write(bytes(_HEADER))
    try:
        # Writing holds the frame's own lock while it waits for the interpreter: any other thread that only asks the
        # same frame for its height would wait for ever. A clone shares the data and has a lock of its own.
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


@dataclass(frozen=True, slots=True)
class _Below:
    """The way of packing values below a depth."""

    depth: int
    in_utc: bool
    """Whether times are written without their zones."""

    def extension(self, value: object) -> Any:
        """The extension type for a value that msgpack has no type for. Exact types only: a subclass would change its
        type."""
        kind = type(value)
        if kind is datetime:
            at = cast("datetime", value)
            aware = self.in_utc and at.utcoffset() is not None
            return _of_datetime(at.astimezone(UTC) if aware else at)
        if kind is tuple:
            if self.depth >= MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
            below = (_BELOW_IN_UTC if self.in_utc else _BELOW)[self.depth + 1]
            return msgpack.ExtType(_TUPLE, _pack(list(value), below))  # type: ignore[call-overload]
        writer = _WRITERS.get(kind)
        if writer is None:
            raise TypeError(f"it holds a {kind.__module__}.{kind.__qualname__}")
        code, payload = writer
        return msgpack.ExtType(code, payload(value))


def _pack(value: object, below: _Below) -> bytes:
    # msgpack would write times itself, all in UTC.
    packed: bytes = _msgpack.packb(value, default=below.extension, use_bin_type=True, strict_types=True)
    return packed


def _unpack(data: bytes, depth: int) -> Any:
    return _msgpack.unpackb(
        data, raw=False, strict_map_key=False, timestamp=3, use_list=True, ext_hook=_READERS_BELOW[depth]
    )


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


def _of_datetime(value: datetime) -> Any:
    zone = value.tzinfo
    if zone is UTC:
        since = value - _EPOCH
        return _msgpack.Timestamp(since.days * 86_400 + since.seconds, since.microseconds * 1_000)
    offset = None if zone is None else value.utcoffset()
    local = (value.replace(tzinfo=None) - _NAIVE_EPOCH) // _MICRO
    if offset is None:  # naive in effect
        return msgpack.ExtType(_DATETIME, _int_bytes(local))
    # The local time, since one that a clock never shows would come back as another.
    micros = local.to_bytes(8, "big", signed=True)
    name = zone.key if isinstance(zone, ZoneInfo) else None
    if name == "UTC":
        return _of_datetime(value.replace(tzinfo=UTC))
    if name is not None and _known_zone(name) is not None:
        return msgpack.ExtType(_IN_ZONE, bytes([value.fold]) + micros + name.encode("ascii"))
    return msgpack.ExtType(_AT_OFFSET, micros + _int_bytes(offset // _MICRO))


@lru_cache(maxsize=1_024)
def _known_zone(name: str) -> ZoneInfo | None:
    """The zone of that name; None if this machine has none."""
    if not name.isascii() or not 0 < len(name) <= _ZONE_NAME:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _read_in_zone(payload: bytes) -> datetime:
    fold, name = payload[:1], payload[9:].decode("ascii")
    if fold not in (b"\0", b"\1") or not name:
        raise ValueError("a time in a zone that is none")
    zone = _known_zone(name)
    if zone is None:
        raise ValueError(f"a time in the zone {name[:_ZONE_NAME]!r}, which this machine does not know")
    return _local(payload[1:9]).replace(tzinfo=zone, fold=fold[0])


def _read_at_offset(payload: bytes) -> datetime:
    offset = _bytes_int(payload[8:])
    if not -_DAY < offset < _DAY or len(payload) > 16:
        raise ValueError("a time at an offset of more than a day")
    return _local(payload[:8]).replace(tzinfo=timezone(offset * _MICRO))


def _local(payload: bytes) -> datetime:
    if len(payload) != 8:
        raise ValueError("a time of fewer than 8 bytes")
    return _NAIVE_EPOCH + _bytes_int(payload) * _MICRO


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
    _IN_ZONE: _read_in_zone,
    _AT_OFFSET: _read_at_offset,
}
_BELOW: Final = [_Below(depth, in_utc=False) for depth in range(MAX_DEPTH + 1)]
_BELOW_IN_UTC: Final = [_Below(depth, in_utc=True) for depth in range(MAX_DEPTH + 1)]
_READERS_BELOW: Final = [partial(_read, depth) for depth in range(MAX_DEPTH + 1)]


def _may_be_deep(data: bytes) -> bool:
    # In portions: large bytes within a value have so many in the first of them.
    openings = 0
    for at in range(0, len(data), _PORTION):
        openings += len(data[at : at + _PORTION].translate(None, _NOT_OPENING))
        if openings > MAX_DEPTH:
            return True
    return False


def deeper_than(value: object, depth: int) -> bool:
    """Whether lists and dicts nest deeper than `depth`; goes level by level, without recursion.

    >>> deeper_than([[1]], 1), deeper_than([[1]], 2)
    (True, False)
    """
    level: list[object] = [value]
    for _ in range(depth):
        # Most values of the last level are no containers: their types alone are looked at, which costs little.
        if not _containers(level):
            return False
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                entries = cast("Mapping[object, object]", item)
                inner.extend(entries)
                inner.extend(entries.values())
            elif isinstance(item, (list, tuple)):
                inner.extend(cast("Sequence[object]", item))
        level = inner
    return _containers(level)


def _containers(values: list[object]) -> bool:
    """Whether there is a list, tuple or dict among the values."""
    return any(issubclass(kind, (list, tuple, dict)) for kind in set(map(type, values)))


def _shown(value: object) -> str:
    return represented(value)


def _damaged(reason: str) -> StateError:
    return StateError(
        f"stored bytes cannot be read: {reason}",
        hint="they are damaged or newer than this program; restore from a checkpoint",
    )
