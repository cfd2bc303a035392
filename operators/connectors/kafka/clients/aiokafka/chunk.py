"""Records as a broker sends them: batches whose headers have been read, unpacked on demand.

The headers tell fetching all it needs: where to go on, and which batches are of aborted transactions. Decompressing
and unpacking happen on the thread that asks for records. They go through aiokafka's compiled `record` package and
keep columns, not records: aiokafka's consumer takes five times as long to make an object of each record, most of it
in the garbage collector. A batch that the compiled package does not understand as a whole is read record by record,
so that one bad record is one bad record.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter, eq, lt
from typing import Any, Final, NamedTuple

from streamflow.errors import SourceError, Where
from streamflow.operators.connectors.kafka.clients.aiokafka.batch_codecs import (
    CODECS,
    TooLargeError,
    UnreadableError,
    unpacked,
)
from streamflow.operators.connectors.kafka.clients.aiokafka.batches import (
    HEADER_BYTES,
    BatchHeader,
    DamagedBatchError,
    ReadRecord,
    batches_of,
    read_varint,
    records_of,
)
from streamflow.operators.connectors.kafka.clients.port import UNPACKED_BYTES, Headers
from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["FetchedBatch", "RecordChunk", "read_batches"]

_ATTRIBUTES: Final = 22
"""The position of the lower byte of a batch's attributes."""
_CODEC_BITS: Final = 0x07
_CONTROL_BYTES: Final = 64 << 10
_ABORT: Final = 0
_SHORT_KEYS: Final = 64
"""The longest key in bytes whose length could be taken for an offset by chance."""
_OLD_ATTRIBUTES: Final = 17
_OLD_KEY: Final = (18, 26)
"""The position of the key's length in formats 0 and 1."""


class FetchedBatch(NamedTuple):
    """A batch of records of one partition as it was sent; its records have offsets from `start` to below
    `next_offset`."""

    content: bytes
    header: BatchHeader

    @property
    def start(self) -> int:
        return self.header.start

    @property
    def next_offset(self) -> int:
        return self.header.next_offset


class RecordChunk:
    """The records from offset `start` up to `next_offset` of these batches, as the port's `Chunk`.

    A batch that would unpack to more than `unpacked_bytes` is not unpacked and counts as one flaw.
    """

    def __init__(
        self,
        partition: str,
        batches: Sequence[FetchedBatch],
        start: int,
        next_offset: int,
        unpacked_bytes: int = UNPACKED_BYTES,
    ) -> None:
        self._partition = partition
        self._batches = batches
        self._start = start
        self._limit = unpacked_bytes
        self._kept: tuple[list[bytes | None], list[int]] | None = None
        self._offsets: list[Sequence[int]] = []
        """The offsets of each batch."""
        self._flaws: dict[int, str] = {}
        self._bounds = slice(None)
        self._misread: set[int] = set()
        """The positions of batches that the compiled parser does not understand."""
        self.next_offset = next_offset
        self.nbytes = sum(len(batch.content) for batch in batches)

    def __len__(self) -> int:
        return len(self.values())

    def values(self) -> list[bytes | None]:
        return self._always()[0]

    def milliseconds(self) -> list[int]:
        return self._always()[1]

    def timestamps(self) -> list[int]:
        return [1000 * time for time in self._always()[1]]

    def offsets(self) -> list[int]:
        self._always()
        return self._all_offsets()[self._bounds]

    def keys(self) -> list[bytes | None]:
        return self._column("key")

    def headers(self) -> list[Headers]:
        return self._column("headers")

    def flaws(self) -> Mapping[int, str]:
        self._always()
        return self._flaws

    def _always(self) -> tuple[list[bytes | None], list[int]]:
        """Values and times: always read, since one walk over the records is cheaper than two."""
        if self._kept is None:
            values: list[bytes | None] = []
            times: list[int] = []
            flaws: dict[int, str] = {}
            self._misread.clear()
            self._offsets.clear()
            for place, fetched in enumerate(self._batches):
                records, before = self._opened(fetched), len(values)
                if isinstance(records, bytes):
                    offsets = _parsed(records, fetched.header, values, times)
                    if offsets is not None:
                        self._offsets.append(offsets)
                        continue
                    del values[before:], times[before:]
                    self._misread.add(place)
                    records = records_of(fetched.header, records[HEADER_BYTES:])
                values.extend(record.value for record in records)
                times.extend(record.timestamp for record in records)
                self._offsets.append([record.offset for record in records])
                for index, record in enumerate(records, before):
                    if record.flaw is not None:
                        flaws[index] = record.flaw
            bounds = self._bounds = self._asked_for()
            self._kept = values[bounds], times[bounds]
            if flaws:
                first, stop, _ = bounds.indices(len(values))
                self._flaws = {index - first: why for index, why in flaws.items() if first <= index < stop}
        return self._kept

    def _column(self, name: str) -> list[Any]:
        from aiokafka.record.default_records import DefaultRecordBatch

        self._always()
        column: list[Any] = []
        of = attrgetter(name)
        for place, fetched in enumerate(self._batches):
            records: Any = self._opened(fetched)
            if isinstance(records, bytes):
                if place in self._misread:
                    records = records_of(fetched.header, records[HEADER_BYTES:])
                else:
                    records = DefaultRecordBatch(records)
            column.extend(map(of, records))
        return column[self._bounds]

    def _asked_for(self) -> slice:
        """Whether an offset was asked for: a batch is sent whole, even if only some of its records were asked for."""
        batches = self._batches
        if not batches or (batches[0].start >= self._start and batches[-1].next_offset <= self.next_offset):
            return slice(None)
        offsets = self._all_offsets()
        return slice(bisect_left(offsets, self._start), bisect_left(offsets, self.next_offset))

    def _all_offsets(self) -> list[int]:
        return list(chain.from_iterable(self._offsets))

    def _opened(self, fetched: FetchedBatch) -> bytes | list[ReadRecord]:
        """The batch in uncompressed form, or its records if the compiled parser cannot read it; raises SourceError
        for a damaged batch."""
        header, content = fetched.header, fetched.content
        try:
            _check(content)
            if header.old:
                return _old_records(header, content, self._limit)
            if not header.records and len(content) == HEADER_BYTES:
                return []
            return _uncompressed(header, content, self._limit) if header.codec else content
        except DamagedBatchError as error:
            raise SourceError(
                f"a batch of records is damaged: {error}",
                where=Where(split=self._partition, offset=f"offset {fetched.start}"),
                hint="check the broker's disks and the network",
            ) from error
        except (TooLargeError, UnreadableError) as error:
            return [self._unreadable(fetched, header, error)]

    def _unreadable(self, fetched: FetchedBatch, header: BatchHeader, error: Exception) -> ReadRecord:
        """The stand-in for the unreadable records of a batch, as far as they were asked for."""
        first = max(fetched.start, self._start)
        last = min(fetched.next_offset, self.next_offset) - 1
        which = f"the records of offsets {first} to {last}, compressed with {CODECS.get(header.codec, '?')},"
        if isinstance(error, TooLargeError):
            why = f"{which} unpack to more than max_batch_bytes={self._limit}"
        else:
            why = f"{which} cannot be unpacked: {error}"
        return ReadRecord(first, flaw=why)


def _parsed(
    content: bytes, header: BatchHeader, values: list[bytes | None], times: list[int]
) -> Sequence[int] | None:
    """Appends the records that the compiled parser finds in an uncompressed batch; returns their offsets, or None if
    the parser has not understood the batch.

    The parser takes the byte of a record's attributes, which is unused, for the first of two if it is above 127.
    Then every part of the record is read as another: the offset as the time, the key's length as the offset. If the
    offset is known, only records that have it as their time are checked, since checking all takes as long as
    parsing. Otherwise the offsets tell: if none is missing, such a record has a key as long as its position.
    """
    from aiokafka.record.default_records import DefaultRecordBatch

    # The parser lets timestamps overflow. Times outside of the calendar are left to the exact parser.
    if not EARLIEST <= 1000 * header.first_timestamp <= LATEST:
        return None
    before = len(values)
    add_value, add_time = values.append, times.append
    try:
        if header.numbered and not header.append_time:
            for record in DefaultRecordBatch(content):
                add_value(record.value)
                add_time(record.timestamp)
            found = len(values) - before
            # As far as the latest time, since the times of a batch are mostly close together.
            first = header.first_timestamp
            latest = max(times[before:], default=first)
            strange = any(map(eq, times[before + 1 :], range(first + 1, latest + 1)))
            fits = found == header.records and _short_attributes(content, found if strange else 1)
            return range(header.base_offset, header.next_offset) if fits else None
        offsets: list[int] = []
        for record in DefaultRecordBatch(content):
            add_value(record.value)
            add_time(record.timestamp)
            offsets.append(record.offset)
        looked_at = _SHORT_KEYS if header.full else len(offsets)
        return offsets if _ascending(offsets, header) and _short_attributes(content, looked_at) else None
    except Exception:  # noqa: BLE001 — whatever it is that is not understood, the other parser says what is wrong
        return None


def _ascending(offsets: list[int], header: BatchHeader) -> bool:
    """Whether these are offsets of a batch in their order."""
    if not offsets:
        return True
    within = header.base_offset <= offsets[0] and offsets[-1] < header.next_offset
    return within and all(map(lt, offsets, offsets[1:]))


def _short_attributes(content: bytes, most: int) -> bool:
    """Whether the attributes of the first `most` records of an uncompressed batch are below 128."""
    place = HEADER_BYTES
    end = len(content)
    while place < end and most:
        # Lengths of one and two bytes are read here, which takes a third of the time of a call.
        low, high = content[place], content[place + 1]
        if low < 128:
            length, place = low >> 1, place + 1
        elif high < 128:
            length, place = ((low & 127) | (high << 7)) >> 1, place + 2
        else:
            length, place = read_varint(content, place)
        if content[place] > 127:
            return False
        place += length
        most -= 1
    return True


def _check(content: bytes) -> None:
    """Raises DamagedBatchError if the checksum does not fit."""
    from aiokafka.record.memory_records import MemoryRecords

    try:
        batch: Any = MemoryRecords(content).next_batch()
        fits = batch.validate_crc()
    except (
        Exception
    ) as error:  # the compiled parser reads messages of the older formats before their checksum
        raise DamagedBatchError(f"{type(error).__name__}: {error}") from error
    if not fits:
        raise DamagedBatchError("its checksum does not fit")


def _uncompressed(header: BatchHeader, content: bytes, limit: int) -> bytes:
    """The batch in uncompressed form, except for its length and its checksum."""
    records = b""
    if header.records or len(content) > HEADER_BYTES:
        records = unpacked(header.codec, memoryview(content)[HEADER_BYTES:], limit)
    head = bytearray(content[:HEADER_BYTES])
    head[_ATTRIBUTES] &= ~_CODEC_BITS
    return b"".join((head, records))


def _old_records(header: BatchHeader, content: bytes, limit: int) -> list[ReadRecord]:
    """The records of a batch of format 0 or 1: one message, or the messages that it holds. The oldest have no
    timestamps."""
    from aiokafka.record.memory_records import MemoryRecords

    batch: Any = MemoryRecords(content).next_batch()
    if codec := content[_OLD_ATTRIBUTES] & _CODEC_BITS:
        place = _OLD_KEY[header.magic]
        key_bytes = max(0, int.from_bytes(content[place : place + 4], signed=True))
        # Unpacked twice, since only unpacking tells whether the limit holds.
        unpacked(codec, content[place + 8 + key_bytes :], limit)
    try:
        return [
            ReadRecord(each.offset, -1 if each.timestamp is None else each.timestamp, each.key, each.value)
            for each in batch
        ]
    except Exception as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def read_batches(
    message_set: bytes, aborted: Sequence[tuple[int, int]] | None
) -> tuple[list[FetchedBatch], int | None]:
    """The batches of a fetched message set that readers of committed records see, and the offset to go on at; None
    if it holds no whole batch.

    `aborted` are (producer id, first offset) of the aborted transactions in that range. From the first offset of
    such a transaction up to the abort marker, its producer's transactional records are left out, as by Kafka's own
    consumer. A marker's batch may be empty: compaction removes the marker once it has no transaction left to end.
    Raises DamagedBatchError for bytes that are no batch, unless a readable batch comes before them; the checksums of
    batches left out are checked here.
    """
    waiting = sorted(aborted or (), key=lambda transaction: transaction[1])
    cancelled: set[int] = set()
    batches: list[FetchedBatch] = []
    next_offset: int | None = None
    try:
        for header, begin, end in batches_of(message_set):
            content = message_set[begin:end]
            if not header.old:
                while waiting and waiting[0][1] <= header.base_offset:
                    cancelled.add(waiting.pop(0)[0])
                if header.control or (header.transactional and header.producer_id in cancelled):
                    _check(content)
                    if header.control and _aborts(header, content):
                        cancelled.discard(header.producer_id)
                    next_offset = header.next_offset
                    continue
            next_offset = header.next_offset
            batches.append(FetchedBatch(content, header))
    except DamagedBatchError:
        # The next answer begins with it.
        if next_offset is None:
            raise
    return batches, next_offset


def _aborts(header: BatchHeader, content: bytes) -> bool:
    """Whether a control batch is the end of an aborted transaction."""
    try:
        records = unpacked(header.codec, content[HEADER_BYTES:], _CONTROL_BYTES) if header.records else b""
    except (TooLargeError, UnreadableError) as error:
        raise DamagedBatchError(f"a control record cannot be unpacked: {error}") from error
    for record in records_of(header, records):
        if record.flaw is not None:
            raise DamagedBatchError(f"a control record cannot be read: {record.flaw}")
        # A version, and the kind of marker.
        return record.key is not None and int.from_bytes(record.key[2:4]) == _ABORT and len(record.key) >= 4
    return False
