"""The progress topic: where a job's markers are, read to its end each time.

One partition, compacted, read as committed. Only a committer that has just fenced all other producers of the
transactional id may believe it: until then a marker may still be on its way.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from streamflow.errors import SinkError, SourceError
from streamflow.operators.connectors.kafka.clients.port import (
    KafkaClient,
    LogReader,
    Metadata,
    ProducedRecords,
    RefusedError,
    RefusedLookupError,
    TopicPartition,
)
from streamflow.operators.connectors.kafka.marker import Marker, PublishedByOthersError
from streamflow.time.clock import Clock

__all__ = ["Progress"]

_CONFIG: Final = {
    "cleanup.policy": "compact",
    # The last segment is not compacted, and each reader reads all of it at its start.
    "segment.bytes": str(1 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "compression.type": "producer",
}
_AT_A_TIME: Final = 1.0


class Progress:
    """The markers of one transactional id. `patience` is the seconds within which they must be readable."""

    def __init__(
        self, client: KafkaClient, clock: Clock, *, topic: str, key: str, client_id: str, patience: float
    ) -> None:
        self._client = client
        self._clock = clock
        self._key = key.encode()
        self._client_id = client_id
        self._patience = patience
        self._partition = TopicPartition(topic, 0)
        self._metadata: Metadata | None = None
        self._reader: LogReader | None = None
        self._position: int | None = None
        self._newest: Marker | None = None

    def record(self, marker: Marker) -> ProducedRecords:
        """The marker as a record of the topic."""
        return ProducedRecords(self._partition, [marker.encoded()], [self._key], [None], [()])

    async def newest(self) -> Marker | None:
        """The newest committed marker; None if there never was one. Raises SinkError if it cannot be read."""
        try:
            metadata, reader = await self._connected()
            await self._read_on(metadata, reader)
        except SourceError as error:
            if self._position is not None and await self._is_gone():
                await self.close()
                raise PublishedByOthersError(
                    f"the progress topic {self._partition.topic!r} was deleted while the job ran",
                    hint="make no changes to it: without it the job cannot tell which output is public; "
                    "--allow-duplicates continues from the checkpoint",
                ) from error
            await self.close()
            kind = RefusedError if isinstance(error, RefusedLookupError) else SinkError
            raise kind(
                f"the progress topic {self._partition.topic!r} cannot be read: {error.message}",
                hint=error.hint,
            ) from error
        except BaseException:
            await self.close()
            raise
        return self._newest

    async def close(self) -> None:
        reader, metadata = self._reader, self._metadata
        self._reader = self._metadata = None
        for held in (reader, metadata):
            if held is not None:
                with suppress(SinkError, SourceError):
                    await held.close()

    async def _is_gone(self) -> bool:
        with suppress(SourceError):
            return self._metadata is not None and not await self._metadata.partitions([self._partition.topic])
        return False

    async def _connected(self) -> tuple[Metadata, LogReader]:
        if self._metadata is None:
            self._metadata = self._client.metadata(client_id=self._client_id)
            await self._metadata.start()
            there = await self._metadata.partitions([self._partition.topic])
            if not there:
                await self._metadata.create_topic(self._partition.topic, partitions=1, config=_CONFIG)
        if self._reader is None:
            earliest = await self._metadata.offsets([self._partition], "earliest")
            start = earliest[self._partition]
            if self._position is not None:
                start = max(start, self._position)
            self._position = start
            self._reader = self._client.reader(client_id=self._client_id)
            await self._reader.start()
            await self._reader.add(self._partition, start)
        return self._metadata, self._reader

    async def _read_on(self, metadata: Metadata, reader: LogReader) -> None:
        assert self._position is not None
        end = (await metadata.offsets([self._partition], "latest"))[self._partition]
        if end < self._position:
            raise PublishedByOthersError(
                f"the progress topic {self._partition.topic!r} ends at {end}, which was at {self._position} already",
                hint="Kafka has lost records that it had acknowledged, or the topic was deleted: check its replication "
                "and unclean leader elections; --allow-duplicates continues from the checkpoint",
            )
        deadline = self._clock.monotonic() + self._patience
        while self._position < end:
            if self._clock.monotonic() > deadline:
                raise SinkError(
                    f"the progress topic {self._partition.topic!r} cannot be read to its end within "
                    f"{self._patience:g} s",
                    hint="check that its partition has a leader",
                )
            chunk = await reader.fetch(self._partition, seconds=_AT_A_TIME, most=None)
            if chunk is None:
                continue
            for key, value in zip(chunk.keys(), chunk.values(), strict=True):
                if key == self._key and value is not None:
                    self._newest = Marker.read(value)
            self._position = chunk.next_offset
