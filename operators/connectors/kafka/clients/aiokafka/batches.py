"""Batches of records as brokers send them (Kafka's format 2, and older): sets of batches, headers, single records.

A header is covered by the batch's checksum from its attributes on; where the batch ends and its first offset are not.

aiokafka's compiled parser of records is many times as fast and gives up a whole batch for one record: `records_of` is
for the batches that it gives up. A record begins with its length, so the next one is found whatever its content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from streamflow.operators.connectors.kafka.clients.port import Headers

__all__ = [
    "HEADER_BYTES",
    "BatchHeader",
    "DamagedBatchError",
    "ReadRecord",
    "batches_of",
    "read_varint",
    "records_of",
]

HEADER_BYTES: Final = 61
_HEADER: Final = Struct(">qiibIhiqqqhii")
_PREFIX: Final = Struct(">qi")
"""The first offset, and the number of bytes behind this prefix."""
_OVERHEAD: Final = _PREFIX.size
_MAGIC: Final = 16
_OLD_LEAST: Final = 26
"""The bytes of the shortest message of the oldest format."""
_NEWEST: Final = 2
_NO_PRODUCER: Final = -1

_CODEC: Final = 0x07
_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20


class DamagedBatchError(Exception):
    """Bytes that are no batch of records, or not the one that was written."""


class BatchHeader(NamedTuple):
    """The header of a batch. Of formats 0 and 1 only the offset and `magic` are known, and the batch is one message,
    which may hold others up to its offset."""

    base_offset: int
    magic: int
    attributes: int = 0
    last_offset_delta: int = 0
    first_timestamp: int = 0
    max_timestamp: int = 0
    producer_id: int = _NO_PRODUCER
    records: int = 0

    @property
    def old(self) -> bool:
        """Whether it is of format 0 or 1."""
        return self.magic < _NEWEST

    @property
    def start(self) -> int:
        """A lower bound of the records' offsets; -1 if unknown."""
        return -1 if self.old else self.base_offset

    @property
    def next_offset(self) -> int:
        """The offset behind the batch, beyond records that were compacted away at its end."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def numbered(self) -> bool:
        """Whether each record's offset follows from its place: no offset is missing, and brokers refuse compressed
        batches whose records are in another order."""
        return bool(self.codec) and self.full

    @property
    def full(self) -> bool:
        """Whether it has as many records as offsets."""
        return self.records == self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        """0: not compressed, 1: gzip, 2: snappy, 3: lz4, 4: zstd."""
        return self.attributes & _CODEC

    @property
    def append_time(self) -> bool:
        """Whether `max_timestamp` is the timestamp of each record: the time at which the broker got it."""
        return bool(self.attributes & _APPEND_TIME)

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL) and self.producer_id != _NO_PRODUCER

    @property
    def control(self) -> bool:
        """Whether its records are a broker's notes, such as the end of a transaction."""
        return bool(self.attributes & _CONTROL)


def batches_of(message_set: bytes) -> Iterator[tuple[BatchHeader, int, int]]:
    """(header, begin, end) of each whole batch; a broker may cut the last one off. Raises DamagedBatchError for
    bytes that cannot be a batch.

    >>> list(batches_of(b"cut off"))
    []
    """
    begin, size = 0, len(message_set)
    while size - begin >= _OVERHEAD:
        base, length = _PREFIX.unpack_from(message_set, begin)
        end = begin + _OVERHEAD + length
        if length < _OLD_LEAST - _OVERHEAD or base < 0:
            raise DamagedBatchError(f"a batch at offset {base} would take {length} bytes")
        if end > size:
            return
        yield _header(message_set, begin, end, base), begin, end
        begin = end


def _header(content: bytes, begin: int, end: int, base: int) -> BatchHeader:
    magic = content[begin + _MAGIC]
    if magic > _NEWEST:
        raise DamagedBatchError(f"the batch at offset {base} has the unknown format {magic}")
    if magic < _NEWEST:
        return BatchHeader(base, magic)
    if end - begin < HEADER_BYTES:
        raise DamagedBatchError(f"the batch at offset {base} is shorter than a header")
    fields = _HEADER.unpack_from(content, begin)
    _, _, _, _, _, attributes, last_delta, first_time, max_time, producer, _, _, count = fields
    if last_delta < 0 or count < 0:
        raise DamagedBatchError(
            f"the batch at offset {base} has {count} records up to offset {base + last_delta}"
        )
    return BatchHeader(base, magic, attributes, last_delta, first_time, max_time, producer, count)


_MOST_VARINT: Final = 10
_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record; with `flaw`, the place of one that could not be read. `timestamp` in milliseconds, -1 for none.
    Header names that are not UTF-8 have their bytes as lone surrogates (PEP 383)."""

    offset: int
    timestamp: int = -1
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    flaw: str | None = None


def records_of(header: BatchHeader, content: bytes) -> list[ReadRecord]:
    """The records of a batch of format 2; offsets ascend and lie within the batch."""
    found: list[ReadRecord] = []
    place, least = 0, header.base_offset
    for number in range(header.records):
        if least >= header.next_offset:
            found[-1:] = [_flawed(least - 1, f"the batch has {header.records} records and fewer offsets")]
            return found
        try:
            length, begin = read_varint(content, place)
            place = begin + length
            if length < 0 or place > len(content):
                raise ValueError(f"a record takes {length} bytes, and {len(content) - begin} are left")
        except ValueError as error:
            rest = f"{header.records - number} records" if header.records - number > 1 else "a record"
            found.append(_flawed(least, f"{rest} of a batch cannot be read: {error}"))
            return found
        try:
            record = _record(header, content, begin, place)
            if not least <= record.offset < header.next_offset:
                raise ValueError(
                    f"its offset is {record.offset}, not one from {least} to {header.next_offset - 1}"
                )
        except ValueError as error:
            record = _flawed(least, f"a record cannot be read: {error}")
        found.append(record)
        least = record.offset + 1
    if place != len(content):
        why = f"{len(content) - place} bytes stand behind the last record of a batch"
        last = found.pop().offset if found else header.base_offset
        found.append(_flawed(last, why))
    return found


def _flawed(offset: int, why: str) -> ReadRecord:
    return ReadRecord(offset, flaw=why)


def _record(header: BatchHeader, content: bytes, begin: int, end: int) -> ReadRecord:
    place = begin + 1  # attributes, of which none is in use
    delta, place = read_varint(content, place)
    offset_delta, place = read_varint(content, place)
    key, place = _bytes(content, place, end)
    value, place = _bytes(content, place, end)
    count, place = read_varint(content, place)
    # A header takes two bytes at least.
    if not 0 <= count <= (end - place) // 2:
        raise ValueError(f"it has {count} headers")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, place = _bytes(content, place, end)
        if name is None:
            raise ValueError("a header has no name")
        header_value, place = _bytes(content, place, end)
        headers.append((name.decode(errors="surrogateescape"), header_value))
    if place != end:
        raise ValueError(f"it takes {end - begin} bytes, and has {place - begin}")
    timestamp = header.max_timestamp if header.append_time else header.first_timestamp + delta
    return ReadRecord(header.base_offset + offset_delta, timestamp, key, value, headers)


def _bytes(content: bytes, place: int, end: int) -> tuple[bytes | None, int]:
    length, place = read_varint(content, place)
    if length < 0:
        return None, place
    if length > end - place:
        raise ValueError(f"a part of it takes {length} bytes, and {end - place} are left")
    return content[place : place + length], place + length


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number and the position behind it. Zigzag: the sign is the lowest bit. Raises ValueError for a number
    without an end."""
    value = 0
    for shift in range(0, 7 * _MOST_VARINT, 7):
        if place >= len(content):
            raise ValueError("it is cut off")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= _WORD
            return (value >> 1) ^ -(value & 1), place
    raise ValueError("a number in it has no end")
