"""`KafkaSession`: the connections that the enumerator and all split readers of one source share in a run.

One log reader for all partitions (brokers are asked once for all of them), one connection for metadata. Both are opened
when first needed and closed by whoever is the last to use them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from streamflow.errors import SourceError
from streamflow.logs import reason, told
from streamflow.metrics.registry import Metrics
from streamflow.operators.connectors.kafka.client import (
    Chunk,
    KafkaClient,
    LogReader,
    Metadata,
    TopicPartition,
)
from streamflow.operators.source import SourceContext

__all__ = ["KafkaSession"]

_STUCK_AFTER: Final = 10.0
"""Seconds without a record, although there are some, after which the reader is made anew."""
_SHARED: Final = "kafka"
_LAG: Final = "streamflow_kafka_lag_records"
_OFFSET: Final = "streamflow_kafka_offset"
_LOG = logging.getLogger("streamflow.kafka")


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
        self._positions: dict[TopicPartition, int] = {}
        self._seen: dict[TopicPartition, float] = {}
        self._reconnects = ctx.metrics.counter(
            "streamflow_kafka_reconnects_total", "Times a connection to Kafka was made anew"
        )
        self._counted = 0
        self.tombstones = ctx.metrics.counter(
            "streamflow_kafka_tombstones_total", "Records without a value that were left out"
        )

    @staticmethod
    def of(client: Callable[[], KafkaClient], client_id: str, ctx: SourceContext) -> KafkaSession:
        """The one of this source and run."""
        if _SHARED not in ctx.shared:
            ctx.shared[_SHARED] = KafkaSession(client(), client_id, ctx)
        return cast("KafkaSession", ctx.shared[_SHARED])

    async def metadata(self) -> Metadata:
        """Topics and offsets; opened if need be."""
        async with self._opening:
            if self._metadata is None:
                metadata = self._client.metadata(client_id=self._client_id)
                await metadata.start()
                self._metadata = metadata
            return self._metadata

    async def close_metadata(self) -> None:
        """Nobody looks anything up for a while."""
        metadata, self._metadata = self._metadata, None
        if metadata is not None:
            await metadata.close()

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group; information for others."""
        opened = self._metadata is None
        metadata = await self.metadata()
        await metadata.commit(group, offsets)
        if opened and not self._positions:
            await self.close_metadata()

    async def open(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from there on."""
        async with self._opening:
            if self._reader is None:
                self._reader = await self._new_reader()
            self._positions[partition] = offset
            self._seen[partition] = self._clock.monotonic()
            await self._reader.add(partition, offset)

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        """As `LogReader.fetch`."""
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
        """This partition is not read any more."""
        async with self._opening:
            if self._positions.pop(partition, None) is None:
                return
            self._seen.pop(partition, None)
            for name in (_LAG, _OFFSET):
                self._metrics.remove(name, {"split": str(partition)})
            if self._reader is not None and self._positions:
                await self._reader.remove(partition)
            elif self._reader is not None:
                reader, self._reader = self._reader, None
                await reader.close()
            if not self._positions:
                await self.close_metadata()

    def tell_ends(self, ends: Mapping[TopicPartition, int]) -> None:
        """The log's ends as they were looked up: partitions that nobody fetches fall behind, too."""
        for partition, end in ends.items():
            if partition in self._positions:
                self._tell(partition, end)

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
            _LOG.warning("partition has records and gives none; connecting anew", extra=facts)
            try:
                reader = await self._new_reader()
            except SourceError as error:
                # The old one is no worse, and has a patience of its own.
                _LOG.warning(
                    "no new connection; going on with the one that is there", extra=told(error=reason(error))
                )
            else:
                self._reconnects.add(1)
                self._reader = reader
                for each, offset in self._positions.items():
                    await reader.add(each, offset)
                await stuck.close()
            self._seen = dict.fromkeys(self._positions, self._clock.monotonic())

    def _count(self) -> None:
        """What the reader has made anew by itself, if it tells."""
        made: Any = getattr(self._reader, "reconnects", 0)
        if made > self._counted:
            self._reconnects.add(made - self._counted)
            self._counted = made

    def _tell(self, partition: TopicPartition, end: int | None) -> None:
        labels = {"split": str(partition)}
        position = self._positions[partition]
        self._metrics.gauge(_OFFSET, "The next offset to be fetched", labels).set(position)
        if end is not None:
            behind = max(0, end - position)
            self._metrics.gauge(_LAG, "Records between what was fetched and the log's end", labels).set(
                behind
            )
