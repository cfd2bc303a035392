"""`KafkaSession`: the connections that the enumerator and all split readers of one source share in a run.

One log reader for all partitions (brokers are asked once for all of them), one connection for metadata. Both are
opened when first needed and closed by their last user.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from streamflow.errors import SourceError, Where
from streamflow.observe.logs import reason, told
from streamflow.observe.registry import Metrics
from streamflow.operators.connectors.kafka.clients.port import (
    Chunk,
    KafkaClient,
    LogReader,
    Metadata,
    TopicPartition,
)
from streamflow.operators.contract.source import SourceContext

__all__ = ["KafkaSession", "MadeAgainError"]

_STUCK_AFTER: Final = 10.0
"""Seconds without a record, although there are some, after which the reader is made again."""
_SHARED: Final = "kafka"
_LAG: Final = "streamflow_kafka_lag_records"
_OFFSET: Final = "streamflow_kafka_offset"
_UNDECIDED: Final = "streamflow_kafka_undecided_records"
_LOG = logging.getLogger("streamflow.kafka")


class MadeAgainError(SourceError):
    """Another topic of that name: it has other records at the offsets that were read, and some of its own would be
    skipped."""

    final = True

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"topic {topic!r} was deleted and made again since the job began to read it, and has other records",
            where=Where(split=topic),
            hint="leave it out of the topics for one run, and the next reads it from its start; or start over with "
            "restore none",
        )


class KafkaSession:
    """Shared by the readers of one source; `of` finds it.

    It is also the watchdog: a partition that has records and gives none makes it open a new reader for all of them,
    each going on where it was.
    """

    def __init__(self, client: KafkaClient, client_id: str, ctx: SourceContext) -> None:
        self._client = client
        self._client_id = client_id
        self._clock = ctx.clock
        self._metrics: Metrics = ctx.metrics
        self._opening = asyncio.Lock()
        self._reader: LogReader | None = None
        self._metadata: Metadata | None = None
        self._metadata_users = 0
        self._metadata_unwanted = False
        self._positions: dict[TopicPartition, int] = {}
        self._seen: dict[TopicPartition, float] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._reconnects = ctx.metrics.counter(
            "streamflow_kafka_reconnects_total", "Times a connection to Kafka was made again"
        )
        self._counted = 0
        self.ids: dict[str, str] = {}
        """The brokers' id of each topic."""
        self._uncompared: frozenset[str] = frozenset()
        self._comparing = asyncio.Lock()
        self._lost = ctx.metrics.counter(
            "streamflow_kafka_lost_records_total", "Offsets that retention deleted before they were read"
        )
        self._deleted = ctx.metrics.counter(
            "streamflow_kafka_deleted_partitions_total", "Partitions that were deleted while they were read"
        )
        self.tombstones = ctx.metrics.counter(
            "streamflow_kafka_tombstones_total", "Records without a value that were left out"
        )

    @staticmethod
    def of(client: Callable[[], KafkaClient], client_id: str, ctx: SourceContext) -> KafkaSession:
        """The session of this source and run."""
        if _SHARED not in ctx.shared:
            ctx.shared[_SHARED] = KafkaSession(client(), client_id, ctx)
        return cast("KafkaSession", ctx.shared[_SHARED])

    @asynccontextmanager
    async def metadata(self) -> AsyncGenerator[Metadata]:
        """The connection for topics and offsets, opened if needed, and open until the block ends: the enumerator
        looks for partitions while the last reader closes or a checkpoint's offsets are committed."""
        async with self._opening:
            if self._metadata is None:
                metadata = self._client.metadata(client_id=self._client_id)
                await metadata.start()
                self._metadata = metadata
            metadata = self._metadata
            self._metadata_users += 1
        try:
            yield metadata
        finally:
            self._metadata_users -= 1
            if self._metadata_unwanted:
                await self.close_metadata()

    async def close_metadata(self) -> None:
        """Close the connection for topics and offsets; one in use is closed by its last user."""
        self._metadata_unwanted = self._metadata_users > 0
        if self._metadata_unwanted:
            return
        metadata, self._metadata = self._metadata, None
        if metadata is not None:
            await metadata.close()

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Tells the group the offsets, as information for others."""
        opened = self._metadata is None
        async with self.metadata() as metadata:
            await metadata.commit(group, offsets)
        if opened and not self._positions:
            await self.close_metadata()

    def expect(self, topic: str, id: str) -> None:
        """Takes the id of a topic when a split of it was made: in another process than the enumerator's nothing else is
        known of it. It is compared before the topic is read."""
        if topic not in self.ids:
            self.ids[topic] = id
            self._uncompared |= {topic}

    async def open(self, partition: TopicPartition, offset: int) -> None:
        """Reads this partition from this offset on. Raises MadeAgainError if the offset is one of another topic of
        the name."""
        async with self._comparing:
            if self._uncompared:
                await self._compare_restored()
        async with self._opening:
            if self._reader is None:
                self._reader = await self._new_reader()
            self._positions[partition] = offset
            self._seen[partition] = self._clock.monotonic()
            await self._reader.add(partition, offset)

    def go_on(self, ids: Mapping[str, str], read: Collection[str]) -> None:
        """Takes the topic ids of a checkpoint: topics that are read on are compared before they are read."""
        self.ids = dict(ids)
        self._uncompared = frozenset(ids) & frozenset(read)

    async def compare_ids(self, metadata: Metadata, topics: Collection[str], read: Collection[str]) -> None:
        """Looks up the ids of topics. Raises MadeAgainError if a topic that is read has become another one."""
        found = await metadata.topic_ids(list(topics))
        for topic, id in found.items():
            if topic in read and self.ids.get(topic, id) != id:
                raise MadeAgainError(topic)
        self.ids.update(found)
        self._uncompared -= frozenset(topics)

    async def _compare_restored(self) -> None:
        opened = self._metadata is None
        try:
            async with self.metadata() as metadata:
                await self.compare_ids(metadata, self._uncompared, self._uncompared)
        finally:
            if opened:
                await self.close_metadata()

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        """The next records, as `LogReader.fetch`."""
        async with self._opening:
            reader = self._reader
        if reader is None:
            raise SourceError("the connection to Kafka is closed")
        chunk = await reader.fetch(partition, seconds=seconds, most=most)
        if reader is not self._reader:
            # The new one begins where this one had been: what the old one still gave comes again.
            return None
        now = self._clock.monotonic()
        end = reader.end(partition)
        if chunk is not None:
            self._positions[partition] = chunk.next_offset
            self._tell(partition, end)
        if chunk is not None or end is None or end <= self._positions[partition]:
            self._seen[partition] = now
        elif now - self._seen[partition] > _STUCK_AFTER:
            await self._renew(reader, partition)
        self._count()
        return chunk

    async def close(self, partition: TopicPartition) -> None:
        """Ends reading this partition."""
        async with self._opening:
            if self._positions.pop(partition, None) is None:
                return
            self._seen.pop(partition, None)
            for name in (_LAG, _OFFSET, _UNDECIDED):
                self._metrics.remove(name, {"split": str(partition)})
            if self._reader is not None and self._positions:
                await self._reader.remove(partition)
            elif self._reader is not None:
                reader, self._reader = self._reader, None
                await reader.close()
            if not self._positions:
                await self.close_metadata()

    def tell_ends(self, ends: Mapping[TopicPartition, int], appended: Mapping[TopicPartition, int]) -> None:
        """Takes the log's ends as looked up, for readers of committed records and of all: partitions that no fetch
        takes fall behind, too."""
        for partition, end in ends.items():
            if partition in self._positions:
                self._tell(partition, end)
                undecided = self._metrics.gauge(
                    _UNDECIDED, "Records behind the first open transaction", {"split": str(partition)}
                )
                undecided.set(max(0, appended.get(partition, end) - end))

    def tell_gone(self, partition: TopicPartition, offset: int) -> None:
        """Notes that a partition was deleted, and is read no further than this offset."""
        self._deleted.add(1)
        facts = told(split=str(partition), offset=offset, end=self._ends.get(partition))
        _LOG.warning("partition was deleted; the others are read on", extra=facts)

    async def skip_lost(self, partition: TopicPartition, offset: int, first: int) -> None:
        """Goes on at the first offset that retention has left."""
        self._lost.add(first - offset)
        facts = told(split=str(partition), offset=offset, first=first, records=first - offset)
        _LOG.warning("records were deleted before they were read, and are left out", extra=facts)
        async with self._opening:
            self._positions[partition] = first
            if self._reader is not None:
                await self._reader.remove(partition)
                await self._reader.add(partition, first)

    async def _new_reader(self) -> LogReader:
        reader = self._client.reader(client_id=self._client_id)
        await reader.start()
        self._counted = 0
        return reader

    async def _renew(self, stuck: LogReader, partition: TopicPartition) -> None:
        async with self._opening:
            if self._reader is not stuck:
                return
            facts = told(split=str(partition), seconds=_STUCK_AFTER)
            _LOG.warning("partition has records and gives none; connecting again", extra=facts)
            try:
                reader = await self._new_reader()
            except SourceError as error:
                # The old one is no worse, and has a patience of its own.
                _LOG.warning("no new connection; going on with the old one", extra=told(error=reason(error)))
            else:
                self._reconnects.add(1)
                self._reader = reader
                try:
                    for each, offset in self._positions.items():
                        await reader.add(each, offset)
                finally:
                    await stuck.close()
            self._seen = dict.fromkeys(self._positions, self._clock.monotonic())

    def _count(self) -> None:
        """Counts the reader's reconnections, if it reports them."""
        made: Any = getattr(self._reader, "reconnects", 0)
        if made > self._counted:
            self._reconnects.add(made - self._counted)
            self._counted = made

    def _tell(self, partition: TopicPartition, end: int | None) -> None:
        labels = {"split": str(partition)}
        position = self._positions[partition]
        self._metrics.gauge(_OFFSET, "The next offset to be fetched", labels).set(position)
        if end is not None:
            self._ends[partition] = end
            behind = max(0, end - position)
            self._metrics.gauge(_LAG, "Records between the last fetched one and the log's end", labels).set(
                behind
            )
