"""Kafka's record batches (format 2) in plain Python, written after its documentation: what tests make batches with, and
what they hold the package's own reading against. It shares no code with the package or with any client."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import cramjam

__all__ = [
    "CODECS",
    "DamagedError",
    "TooLongError",
    "Written",
    "checksummed",
    "decode",
    "encode",
    "encode_record",
    "in_order",
    "varint",
]

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_HEAD = ">qiibIhiqqqhii"
_SIZE = 61
_TABLE: list[int] = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = (_value >> 1) ^ (0x82F63B78 if _value & 1 else 0)
    _TABLE.append(_value)


class DamagedError(Exception):
    """No batch, or not the one that was written."""


class TooLongError(Exception):
    """More comes out than may."""


class Written(NamedTuple):
    """A record as its producer wrote it; `timestamp` in milliseconds."""

    key: bytes | None = None
    value: bytes | None = None
    timestamp: int = 0
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    offset: int = -1


def encode(
    records: Sequence[Written | bytes],
    *,
    offset: int = 0,
    codec: str = "none",
    producer: int = -1,
    transactional: bool = False,
    control: bool = False,
    append_time: int | None = None,
    last_delta: int | None = None,
    count: int | None = None,
) -> bytes:
    """A batch; records without an offset follow one another from `offset` on. Bytes stand for an encoded record."""
    first = next((each.timestamp for each in records if isinstance(each, Written)), 0)
    body = b"".join(
        each if isinstance(each, bytes) else encode_record(each, first, offset, index)
        for index, each in enumerate(records)
    )
    attributes = CODECS[codec] | 0x10 * transactional | 0x20 * control | 0x08 * (append_time is not None)
    times = [each.timestamp for each in records if isinstance(each, Written)]
    latest = max(times, default=-1) if append_time is None else append_time
    content = struct.pack(
        _HEAD,
        offset,
        0,
        0,
        2,
        0,
        attributes,
        len(records) - 1 if last_delta is None else last_delta,
        first,
        latest,
        producer,
        0,
        0,
        len(records) if count is None else count,
    ) + _packed(codec, body)
    return checksummed(content)


def encode_record(record: Written, first_timestamp: int, base: int, index: int, attributes: int = 0) -> bytes:
    """One record with its length in front. Of its attributes none is in use, and readers leave them alone."""
    delta = index if record.offset < 0 else record.offset - base
    body = bytes([attributes]) + varint(record.timestamp - first_timestamp) + varint(delta)
    body += _counted(record.key) + _counted(record.value) + varint(len(record.headers))
    for name, value in record.headers:
        body += _counted(name) + _counted(value)
    return varint(len(body)) + body


def checksummed(content: bytes) -> bytes:
    """The batch with the length and the checksum that it ought to have."""
    length, crc = struct.pack(">i", len(content) - 12), struct.pack(">I", _crc32c(content[21:]))
    return content[:8] + length + content[12:17] + crc + content[21:]


def decode(content: bytes, limit: int | None = None) -> list[Written | None]:
    """The records of a whole batch, None for each that makes no sense. One None stands at the end for all that cannot
    be found, or for the last one if bytes are left behind it. Raises DamagedError where the batch as a whole is not
    what it says it is, TooLongError where more than `limit` bytes come out."""
    if len(content) < _SIZE:
        raise DamagedError("short")
    head = struct.unpack_from(_HEAD, content)
    base, length, _, magic, crc, attributes, last_delta, first, latest, _, _, _, count = head
    if (
        base < 0
        or length != len(content) - 12
        or magic != 2
        or crc != _crc32c(content[21:])
        or last_delta < 0
        or count < 0
    ):
        raise DamagedError("header")
    body = content[_SIZE:]
    if body or count:
        body = _unpacked(attributes & 7, body)
        if attributes & 7 and limit is not None and len(body) > limit:
            raise TooLongError
    found: list[Written | None] = []
    place = 0
    for _ in range(count):
        try:
            size, begin = _number(body, place, len(body))
            if not 0 <= size <= len(body) - begin:
                raise DamagedError("length")
        except DamagedError:
            return [*found, None]
        place = begin + size
        try:
            key, value, delta, offset, headers = _record(body, begin, place)
            time = latest if attributes & 8 else first + delta
            found.append(Written(key, value, time, headers, base + offset))
        except DamagedError:
            found.append(None)
    return found if place == len(body) else [*found[:-1], None]


def in_order(content: bytes) -> bool:
    """Whether each record of a batch has the number of its place, as far as that can be told."""
    body, place = _unpacked(content[22] & 7, content[_SIZE:]), 0
    for number in range(int.from_bytes(content[57:61])):
        try:
            size, place = _number(body, place, len(body))
            _, behind = _number(body, place + 1, len(body))
            if size < 0 or _number(body, behind, len(body))[0] != number:
                return False
            place += size
        except DamagedError:
            return False
    return True


def _record(body: bytes, place: int, end: int):
    delta, place = _number(body, place + 1, end)
    offset, place = _number(body, place, end)
    key, place = _part(body, place, end)
    value, place = _part(body, place, end)
    many, place = _number(body, place, end)
    if many < 0:
        raise DamagedError("headers")
    headers: list[tuple[bytes, bytes | None]] = []
    while many:
        many -= 1
        name, place = _part(body, place, end)
        if name is None:
            raise DamagedError("header")
        header, place = _part(body, place, end)
        headers.append((name, header))
    if place != end:
        raise DamagedError("size")
    return key, value, delta, offset, headers


def varint(number: int) -> bytes:
    """Zigzag, seven bits a byte, the lowest first."""
    rest = (number << 1) ^ (number >> 63) if number >= 0 else ((-number) << 1) - 1
    made = bytearray()
    while rest > 127:
        made.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*made, rest])


def _number(body: bytes, place: int, end: int) -> tuple[int, int]:
    bits = 0
    for index in range(10):
        if place + index >= end:
            raise DamagedError("cut off")
        bits += (body[place + index] % 128) << (7 * index)
        if body[place + index] < 128:
            bits %= 1 << 64
            return (-(bits // 2) - 1 if bits % 2 else bits // 2), place + index + 1
    raise DamagedError("endless")


def _part(body: bytes, place: int, end: int) -> tuple[bytes | None, int]:
    size, place = _number(body, place, end)
    if size > end - place:
        raise DamagedError("part")
    return (None, place) if size < 0 else (body[place : place + size], place + size)


def _counted(part: bytes | None) -> bytes:
    return varint(-1) if part is None else varint(len(part)) + part


def _packed(codec: str, body: bytes) -> bytes:
    match codec:
        case "gzip":
            return gzip.compress(body, mtime=0)
        case "snappy":
            return bytes(cramjam.snappy.compress_raw(body))
        case "lz4":
            made = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
            made.compress(body)
            return bytes(made.finish())
        case "zstd":
            return bytes(cramjam.zstd.compress(body))
        case _:
            return body


def _unpacked(codec: int, body: bytes) -> bytes:
    try:
        match codec:
            case 0:
                return body
            case 1:
                return _members(body)
            case 2:
                if body.startswith(b"\x82SNAPPY\0"):
                    return _blocks(body[16:])
                return bytes(cramjam.snappy.decompress_raw(body))
            case 3:
                return bytes(cramjam.lz4.decompress(body))
            case 4:
                return bytes(cramjam.zstd.decompress(body))
            case _:
                raise DamagedError("packed")
    except (OSError, EOFError, ValueError, zlib.error, cramjam.DecompressionError) as error:
        raise DamagedError("packed") from error


def _members(body: bytes) -> bytes:
    made = b""
    if not body.strip(b"\0"):
        raise DamagedError("packed")
    while body := body.lstrip(b"\0"):
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        made += member.decompress(body)
        if not member.eof:
            raise DamagedError("packed")
        body = member.unused_data
    return made


def _blocks(body: bytes) -> bytes:
    made = b""
    while body:
        size = int.from_bytes(body[:4])
        if not 0 < size <= len(body) - 4:
            raise DamagedError("packed")
        made += bytes(cramjam.snappy.decompress_raw(body[4 : 4 + size]))
        body = body[4 + size :]
    return made


def _crc32c(content: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in content:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
