"""The records of an uncompressed batch, one by one, even if some of them cannot be read.

aiokafka's compiled parser is many times as fast and gives up a whole batch for one record: this parser is for the
batches that it gives up. A record begins with its length, so the next one is found whatever its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamflow.operators.connectors.kafka.clients.aiokafka.batch_header import BatchHeader
from streamflow.operators.connectors.kafka.clients.port import Headers

__all__ = ["ReadRecord", "read_varint", "records_of"]

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
