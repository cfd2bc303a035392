"""The port to Kafka: all that the source and the sink need of a client library, and no more.

Every adapter (aiokafka, confluent-kafka, the simulated log) passes the same tests. Bytes go in and out, nothing is
serialised here. Partitions are assigned, never subscribed to: a checkpoint owns the offsets, not a consumer group.
Failures are raised as SourceError or SinkError by the adapter; what is transient is tried again inside of it, for a
bounded time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

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
    "TopicIds",
    "TopicPartition",
    "TopicSettings",
    "topic_name",
]

BATCH_BYTES: Final = 256 << 10
"""What a batch of records holds before it is compressed: well below what brokers take by default (1 MiB)."""

UNPACKED_BYTES: Final = 64 << 20
"""What a batch of records may unpack to unless a source says otherwise."""

NO_ID: Final = "A" * 22
"""The id of a topic that has none: clusters that were set up before Kafka had them."""

NO_TIMESTAMP: Final = -1_000
"""The timestamp of a record that has none: Kafka's -1 ms, in microseconds."""

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers, in their order; a name may stand several times. Bytes of a name that are not UTF-8 are lone
surrogates (PEP 383)."""

At = Literal["earliest", "latest", "appended", "committed"] | int
"""Where in a partition: an integer is a timestamp in microseconds since 1970 (the first record at or after it)."""


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
    """A transaction's end was sent and its answer is not known: only the marker tells what became of it."""


class RefusedError(SinkError):
    """What trying again does not change: a record too large, a topic that is not there, something not allowed."""


class RefusedLookupError(SourceError):
    """A question that is not answered however often it is asked: a login that is refused, something not allowed."""


class GonePartitionError(SourceError):
    """A partition that is read is not there any more: its topic was deleted. Brokers have said so for a while, since
    after a restart they have to learn first which topics there are."""

    final = True

    @classmethod
    def of(cls, partition: TopicPartition) -> GonePartitionError:
        return cls(
            f"topic {partition.topic!r} has no partition {partition.partition} any more",
            where=Where(split=str(partition)),
            hint="it was deleted while it was read",
        )


class LostRecordsError(SourceError):
    """What was to be read has been deleted by retention, and does not come back: the log begins at `first` now."""

    final = True
    first = 0


class Chunk(Protocol):
    """Records of one partition in their order, as fetched. The columns are made when they are asked for, so that
    nobody pays for what he does not read; asking is allowed on any thread."""

    @property
    def next_offset(self) -> int:
        """Where to go on behind it: beyond records that are not shown (aborted, compacted, control records) too."""
        ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def values(self) -> Sequence[bytes | None]:
        """None: a tombstone."""
        ...

    def keys(self) -> Sequence[bytes | None]: ...

    def offsets(self) -> Sequence[int]: ...

    def milliseconds(self) -> Sequence[int]:
        """Timestamps as the log has them: 64 bits since 1970, of which a calendar may hold none; -1: none."""
        ...

    def timestamps(self) -> Sequence[int]:
        """The same in microseconds; NO_TIMESTAMP: none."""
        ...

    def headers(self) -> Sequence[Headers]: ...

    def flaws(self) -> Mapping[int, str]:
        """By index, what could not be read and why: a record, or at its place all records of a batch."""
        ...


class LogReader(Protocol):
    """Reads assigned partitions, all of one source in one process, each at its own pace."""

    async def start(self) -> None: ...

    async def add(self, partition: TopicPartition, offset: int) -> None:
        """Read the partition from this offset on; the others are not disturbed."""
        ...

    async def remove(self, partition: TopicPartition) -> None: ...

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        """The next records, as soon as there are any; None when there were none for so long. An empty chunk: only the
        position has moved. Partitions nobody fetches are not read on (a bounded amount waits in memory). Cancelling
        consumes nothing. SourceError where the offset is not in the log any more (never a silent reset), and where
        the broker cannot be reached for longer than the client's patience; GonePartitionError for a partition that was
        deleted."""
        ...

    def end(self, partition: TopicPartition) -> int | None:
        """The end that readers of committed records can reach, as of the last fetch; None before the first."""
        ...

    async def close(self) -> None: ...


class Metadata(Protocol):
    """Looks things up; also makes topics."""

    async def start(self) -> None: ...

    async def partitions(self, topics: Sequence[str] | re.Pattern[str]) -> Mapping[str, int]:
        """How many partitions each topic has; those that are not there are left out, and internal ones of a pattern."""
        ...

    async def offsets(
        self, partitions: Sequence[TopicPartition], at: At, *, group: str | None = None
    ) -> Mapping[TopicPartition, int]:
        """The offset of each; "latest" is the end for readers of committed records, a timestamp beyond the last record
        likewise; "appended" is the end behind what is not decided, too. "committed" leaves out partitions of which the
        group has none."""
        ...

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group how far it has come: information for others, which nothing here relies on."""
        ...

    async def create_topic(
        self, topic: str, *, partitions: int, replication: int = -1, config: Mapping[str, str] | None = None
    ) -> bool:
        """Make a topic; False where it was there. Waits until it can be used."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class TopicSettings(Protocol):
    """Metadata that can also tell how a topic is set up; not every client can."""

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """The topic's settings by Kafka's names (`max.message.bytes`, …); empty where they may not be read."""
        ...


@runtime_checkable
class TopicIds(Protocol):
    """Metadata that can also tell a topic from another one of its name that was deleted; not every client can."""

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """What the brokers call each topic; those of which nothing can be told are left out."""
        ...


@dataclass(frozen=True, slots=True)
class ProducedRecords:
    """Records for one partition, in their order. `timestamps` are microseconds since 1970, None for now. `batch_bytes`:
    brokers hold the size of whole batches against the topic's limit, so that none may be larger (before compression),
    unless it is a single record."""

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
        """Connect. A transactional one has fenced every other of its id when this returns: what they left open is
        aborted, what they were committing is committed."""
        ...

    async def begin(self) -> None: ...

    async def write(self, records: ProducedRecords) -> None:
        """Hand in records; returns when they are on their way (bounded memory), not when they are acknowledged."""
        ...

    async def flush(self) -> None:
        """Every record handed in is acknowledged; SinkError for the first that was refused."""
        ...

    async def commit(self) -> None:
        """Flush, then end the transaction. OutcomeUnknownError where the end was sent and not answered, SinkError
        where it is known not to have been committed."""
        ...

    async def abort(self) -> None: ...

    async def close(self) -> None: ...


class KafkaClient(Protocol):
    """A client library with its settings (addresses, security): makes everything else, and connects nowhere itself."""

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
        """`transaction_timeout` in microseconds. `compression`: gzip, snappy, lz4, zstd, None."""
        ...
