"""The header of a batch of records, and the sets of batches in which brokers send them (Kafka's format 2, and older).

A header is covered by the batch's checksum from its attributes on; where the batch ends and its first offset are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

__all__ = ["HEADER_BYTES", "BatchHeader", "DamagedBatchError", "batches_of"]

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
