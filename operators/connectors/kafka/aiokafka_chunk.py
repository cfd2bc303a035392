"""Records as a broker sends them: batches whose headers have been read, and that are unpacked when somebody asks.

Reading the headers says all that fetching needs: where to go on, and which batches are of transactions that were
aborted. Decompressing and unpacking is left to whoever wants the records, on his own thread. It goes through aiokafka's
compiled `record` package and keeps columns, not records: aiokafka's consumer takes five times as long to make an
object of each record, most of it in the garbage collector.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from streamflow.errors import SourceError, Where
from streamflow.operators.connectors.kafka.client import Headers

__all__ = ["FetchedBatch", "RecordChunk", "read_batches"]

_LENGTH: Final = slice(8, 12)
_OVERHEAD: Final = 12


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """A batch of records of one partition as it was sent; its records have offsets from `start` to below
    `next_offset`."""

    content: bytes
    start: int
    next_offset: int


class RecordChunk:
    """The records from offset `start` up to `next_offset` of these batches, as the port's `Chunk`."""

    def __init__(self, partition: str, batches: Sequence[FetchedBatch], start: int, next_offset: int) -> None:
        self._partition = partition
        self._batches = batches
        self._start = start
        self._kept: tuple[list[bytes | None], list[int]] | None = None
        self._bounds: slice | None = None
        self.next_offset = next_offset
        self.nbytes = sum(len(batch.content) for batch in batches)

    def __len__(self) -> int:
        return len(self.values())

    def values(self) -> list[bytes | None]:
        return self._values_and_times()[0]

    def timestamps(self) -> list[int]:
        return self._values_and_times()[1]

    def keys(self) -> list[bytes | None]:
        return self._column("key")

    def offsets(self) -> list[int]:
        return self._column("offset")

    def headers(self) -> list[Headers]:
        return self._column("headers")

    def _values_and_times(self) -> tuple[list[bytes | None], list[int]]:
        """Both are always wanted, and one walk over the records is cheaper than two."""
        if self._kept is None:
            values: list[bytes | None] = []
            times: list[int] = []
            add_value, add_time = values.append, times.append

            def add(records: Iterable[Any]) -> None:
                for record in records:
                    add_value(record.value)
                    # The oldest message format has no timestamps.
                    add_time((record.timestamp or 0) * 1000)

            self._walk(add)
            bounds = self._asked_for()
            self._kept = values[bounds], times[bounds]
        return self._kept

    def _column(self, name: str) -> list[Any]:
        column: list[Any] = []
        of = attrgetter(name)
        self._walk(lambda records: column.extend(map(of, records)))
        return column[self._asked_for()]

    def _asked_for(self) -> slice:
        """A batch is sent whole, also where only some of its records were asked for."""
        batches = self._batches
        if not batches or (batches[0].start >= self._start and batches[-1].next_offset <= self.next_offset):
            return slice(None)
        if self._bounds is None:
            offsets: list[int] = []
            self._walk(lambda records: offsets.extend(record.offset for record in records))
            self._bounds = slice(bisect_left(offsets, self._start), bisect_left(offsets, self.next_offset))
        return self._bounds

    def _walk(self, take: Callable[[Iterable[Any]], None]) -> None:
        """Hand out the records batch by batch. SourceError where one is damaged or its codec is not there."""
        from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
        from aiokafka.record.memory_records import MemoryRecords

        for fetched in self._batches:
            where = Where(split=self._partition, offset=f"offset {fetched.start}")
            try:
                batch: Any = MemoryRecords(fetched.content).next_batch()
                if not batch.validate_crc():
                    raise CorruptRecordException("its checksum does not fit")
                take(batch)
            except CorruptRecordException as error:
                raise SourceError(
                    f"a batch of records is damaged: {error}",
                    where=where,
                    hint="check the broker's disks and the network",
                ) from error
            except (UnsupportedCodecError, RuntimeError) as error:
                raise SourceError(
                    f"a batch of records cannot be decompressed: {error}",
                    where=where,
                    hint='install the codec: pip install "streamflow[kafka]"',
                ) from error


def read_batches(
    message_set: bytes, aborted: Sequence[tuple[int, int]] | None
) -> tuple[list[FetchedBatch], int | None]:
    """The batches of a fetched message set that readers of committed records see, and where to go on behind all that
    it holds; None where it holds no whole batch.

    `aborted` are (producer id, first offset) of the aborted transactions in that range. From the first offset of such a
    transaction up to the abort marker, what its producer wrote in transactions is left out, as Kafka's own consumer
    does.
    """
    from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
    from aiokafka.record.memory_records import MemoryRecords

    waiting = sorted(aborted or (), key=lambda transaction: transaction[1])
    cancelled: set[int] = set()
    batches: list[FetchedBatch] = []
    next_offset: int | None = None
    begin = 0
    memory: Any = MemoryRecords(message_set)
    while memory.has_next():
        batch = memory.next_batch()
        header = message_set[begin : begin + _OVERHEAD]
        content = message_set[begin : begin + _OVERHEAD + int.from_bytes(header[_LENGTH])]
        begin += len(content)
        next_offset = int(batch.next_offset)
        start = int.from_bytes(header[:8])
        if batch.producer_id is not None:
            while waiting and waiting[0][1] <= start:
                cancelled.add(waiting.pop(0)[0])
            if batch.is_control_batch:
                if ControlRecord.parse(next(iter(batch)).key) == ABORT_MARKER:
                    cancelled.discard(batch.producer_id)
                continue
            if batch.is_transactional and batch.producer_id in cancelled:
                continue
        batches.append(FetchedBatch(content, start, next_offset))
    return batches, next_offset
