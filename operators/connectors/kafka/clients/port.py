"""The port to Kafka: all that the source and the sink need of a client library, and no more.

Every adapter (aiokafka, confluent-kafka, the simulated log) passes the same tests. Bytes go in and out;
serialisation happens elsewhere. Partitions are assigned, never subscribed to: a checkpoint owns the offsets, not a
consumer group. Failures are raised as SourceError or SinkError by the adapter; it retries passing ones itself, for a
bounded time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from streamflow.errors import JobDefinitionError, SinkError, SourceError, Where, cut, represented

__all__ = [
    "BATCH_BYTES",
    "NO_ID",
    "NO_TIMESTAMP",
    "UNPACKED_BYTES",
    "At",
    "Chunk",
    "GonePartitionError",
    "Headers",
    "KafkaClient",
    "LogReader",
    "LogWriter",
    "LostRecordsError",
    "Metadata",
    "OutcomeUnknownError",
    "ProducedRecords",
    "RefusedError",
    "RefusedLookupError",
    "TopicPartition",
    "not_allowed",
    "out_of_range",
    "topic_name",
]

BATCH_BYTES: Final = 256 << 10
"""The largest batch of records in bytes before compression: well below the brokers' default limit (1 MiB)."""

UNPACKED_BYTES: Final = 64 << 20
"""The largest unpacked batch of records in bytes, unless a source sets another."""

NO_ID: Final = "A" * 22
"""The id of a topic that has none: clusters that were set up before Kafka had them."""

NO_TIMESTAMP: Final = -1_000
"""The timestamp of a record that has none: Kafka's -1 ms, in microseconds."""

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers, in their order; a name may stand several times. Bytes of a name that are not UTF-8 are lone
surrogates (PEP 383)."""

At = Literal["earliest", "latest", "appended", "committed"] | int
"""A place in a partition: an integer is a timestamp in microseconds since 1970 (the first record at or after it)."""


_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def topic_name(name: object) -> str:
    """A name that a topic can have; raises JobDefinitionError for anything else.

    >>> topic_name("flights")
    'flights'
    """
    if not isinstance(name, str) or not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise JobDefinitionError(
            f"{cut(represented(name))} is no name for a topic",
            hint='letters, digits, ".", "_" and "-"; a source takes several as a list, or a pattern, re.compile("…")',
        )
    return name


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class OutcomeUnknownError(Exception):
    """A transaction's end was sent and not answered: only the marker tells whether it was committed."""


class RefusedError(SinkError):
    """A failure that trying again does not change: a record too large, a missing topic, something not allowed."""


class UnfitRecordError(SinkError):
    """A record that its topic does not take, or its format cannot carry: it is the same the next time."""

    final = True


class RefusedLookupError(SourceError):
    """A look-up that trying again does not answer: a refused login, something not allowed."""


class GonePartitionError(SourceError):
    """A partition whose topic was deleted. Brokers have said so for a while, since after a restart they have to
    learn first which topics there are."""

    final = True

    @classmethod
    def of(cls, partition: TopicPartition) -> GonePartitionError:
        return cls(
            f"topic {partition.topic!r} has no partition {partition.partition} any more",
            where=Where(split=str(partition)),
            hint="it was deleted while it was read",
        )


class LostRecordsError(SourceError):
    """Records deleted by retention before they were read; the log begins at `first` now."""

    final = True
    first = 0


def out_of_range(partition: TopicPartition, offset: int, first: int, last: int) -> SourceError:
    """The error for an offset that is not in a log with offsets `first` to `last`. Never a silent
    reset: missing records are lost data."""
    lost = "has been deleted by then" if offset < first else "is beyond its end: the topic was made again"
    error = (LostRecordsError if offset < first else SourceError)(
        f"offset {offset} is not in the log any more: it has offsets {first} to {last}, "
        f"and the next record to read {lost}",
        where=Where(split=str(partition), offset=f"offset {offset}"),
        hint=f"start over with start= an offset from {first} on, or restore a checkpoint that fits the log",
    )
    if isinstance(error, LostRecordsError):
        error.first = first
    return error


def not_allowed(partition: TopicPartition) -> SourceError:
    """The error for a partition that the user may not read."""
    return SourceError(
        f"reading topic {partition.topic!r} is not allowed",
        where=Where(split=str(partition)),
        hint="the user needs READ and DESCRIBE on the topic",
    )


class Chunk(Protocol):
    """Records of one partition in their order, as fetched. Columns are made on demand, on any thread, so that unread
    ones cost nothing."""

    @property
    def next_offset(self) -> int:
        """The offset to go on at: beyond records that are not shown (aborted, compacted, control records) too."""
        ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def values(self) -> Sequence[bytes | None]:
        """The records' values; None for a tombstone."""
        ...

    def keys(self) -> Sequence[bytes | None]: ...

    def offsets(self) -> Sequence[int]: ...

    def milliseconds(self) -> Sequence[int]:
        """Timestamps as the log has them: 64 bits since 1970, possibly outside of the calendar; -1 for none."""
        ...

    def timestamps(self) -> Sequence[int]:
        """Timestamps in microseconds; NO_TIMESTAMP for none."""
        ...

    def headers(self) -> Sequence[Headers]: ...

    def flaws(self) -> Mapping[int, str]:
        """Error texts by index for unreadable records: a record, or at its place all records of a batch."""
        ...


class LogReader(Protocol):
    """A reader of assigned partitions, all of one source in one process, each at its own pace."""

    async def start(self) -> None: ...

    async def add(self, partition: TopicPartition, offset: int) -> None:
        """Reads the partition from this offset on; other partitions are not disturbed."""
        ...

    async def remove(self, partition: TopicPartition) -> None: ...

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        """The next records, as soon as there are any; None if there were none for `seconds`. An empty chunk: only
        the position moved.

        Partitions that no fetch takes are not read on (a bounded amount waits in memory). Cancelling consumes
        nothing. Raises SourceError if the offset is not in the log any more (never a silent reset), and if the
        broker is out of reach for longer than the client's patience; GonePartitionError for a deleted partition.
        """
        ...

    def end(self, partition: TopicPartition) -> int | None:
        """The end that readers of committed records can reach, as of the last fetch; None before the first."""
        ...

    async def close(self) -> None: ...


class Metadata(Protocol):
    """Look-ups of topics and offsets; also makes topics."""

    async def start(self) -> None: ...

    async def partitions(self, topics: Sequence[str] | re.Pattern[str]) -> Mapping[str, int]:
        """The number of partitions of each topic; missing topics are left out, and internal ones of a pattern."""
        ...

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: At, *, group: str | None = None
    ) -> Mapping[TopicPartition, int]:
        """The offset of each partition; "latest" is the end for readers of committed records, also for a timestamp
        beyond the last record; "appended" is the end behind undecided records, too. "committed" leaves out
        partitions without an offset of the group."""
        ...

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Tells the group how far the job has come: information for others, which nothing here relies on."""
        ...

    async def create_topic(
        self, topic: str, *, partitions: int, replication: int = -1, config: Mapping[str, str] | None = None
    ) -> bool:
        """Makes a topic; returns False if it existed. Waits until it can be used."""
        ...

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """The topic's settings by Kafka's names (`max.message.bytes`, …); empty if they may not be read."""
        ...

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """The brokers' id of each topic, which tells it from a deleted one of the same name; topics of unknown id are
        left out."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ProducedRecords:
    """Records for one partition, in their order. `timestamps` are microseconds since 1970, None for now.
    `batch_bytes`: brokers compare the size of whole batches with the topic's limit, so no batch may be larger
    (before compression), unless it is a single record."""

    partition: TopicPartition
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int | None]
    headers: Sequence[Headers]
    batch_bytes: int = BATCH_BYTES


class LogWriter(Protocol):
    """A producer: idempotent, acks=all. A transactional one is for exactly one transaction, then it is closed; after
    any exception it is closed, too."""

    async def start(self) -> None:
        """Connects. When a transactional writer returns, it has fenced all others of its id: their open transactions
        are aborted, and those being committed are committed."""
        ...

    async def begin(self) -> None: ...

    async def write(self, records: ProducedRecords) -> None:
        """Hands in records; returns when they are on their way (bounded memory), not when they are acknowledged."""
        ...

    async def flush(self) -> None:
        """Waits until every record handed in is acknowledged; raises SinkError for the first that was refused."""
        ...

    async def commit(self) -> None:
        """Flushes, then ends the transaction. Raises OutcomeUnknownError if the end was sent and not answered,
        SinkError if it is known not to have been committed."""
        ...

    async def abort(self) -> None: ...

    async def close(self) -> None: ...


class KafkaClient(Protocol):
    """A client library with its settings (addresses, security): makes readers, writers and look-ups, and connects
    nowhere itself."""

    def reader(self, *, client_id: str) -> LogReader: ...

    def metadata(self, *, client_id: str) -> Metadata: ...

    def writer(
        self,
        *,
        client_id: str,
        transactional_id: str | None,
        transaction_timeout: int,
        compression: str | None,
    ) -> LogWriter:
        """A new producer; `transaction_timeout` in microseconds, `compression`: gzip, snappy, lz4, zstd or None."""
        ...
