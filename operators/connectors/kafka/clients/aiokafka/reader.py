"""A reader of assigned partitions through aiokafka's client, one fetch at a time for each broker.

Not through aiokafka's consumer: that makes a Python object of each record on the event loop and reaches an eighth of
what its compiled record parser can do; assigning partitions again throws away what it has fetched; and it retries in
silence for ever. Here a broker is asked for all partitions that have room; batches wait, still compressed, until
they are taken, and a partition whose share of memory is full is not asked for until batches are taken.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from streamflow.errors import SourceError, Where
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.aiokafka.batches import DamagedBatchError
from streamflow.operators.connectors.kafka.clients.aiokafka.chunk import read_batches
from streamflow.operators.connectors.kafka.clients.aiokafka.connection import (
    closed,
    connect,
    list_offsets,
    unreachable,
)
from streamflow.operators.connectors.kafka.clients.aiokafka.fetch_buffer import FetchBuffer
from streamflow.operators.connectors.kafka.clients.port import (
    UNPACKED_BYTES,
    Chunk,
    GonePartitionError,
    TopicPartition,
    not_allowed,
    out_of_range,
)
from streamflow.operators.connectors.kafka.cluster import Cluster

__all__ = ["AiokafkaReader"]

_PATIENCE: Final = 120.0
"""Seconds for which the job tries on while a partition is out of reach."""
_START_PATIENCE: Final = 30.0
_RENEW_AFTER: Final = 5.0
"""Seconds without any answer after which the cluster is looked up again from its bootstrap addresses."""
_GONE_AFTER: Final = 15.0
"""Seconds for which brokers may say that they do not know a topic: after a restart they have to learn it first."""
_BACKOFF: Final = 0.2

_BUFFER_BYTES: Final = 64 << 20
_MOST_OF_PARTITION: Final = 1 << 20
_LEAST_OF_PARTITION: Final = 64 << 10
_MOST_OF_REQUEST: Final = 16 << 20
_WAIT_MS: Final = 250
_WAIT_FULL_MS: Final = 20
"""Milliseconds that a broker may wait for new records while another of its partitions is full and not asked for."""
_COMMITTED_ONLY: Final = 1
_EARLIEST: Final = -2
_LATEST: Final = -1

_OUT_OF_RANGE: Final = 1
_UNKNOWN_TOPIC: Final = 3
_NOT_AUTHORIZED: Final = 29
_LOG = logging.getLogger("streamflow.kafka")


class AiokafkaReader:
    """A `LogReader`; see there."""

    def __init__(
        self,
        cluster: Cluster,
        client_id: str,
        *,
        patience: float = _PATIENCE,
        unpacked_bytes: int = UNPACKED_BYTES,
    ) -> None:
        self._cluster = cluster
        self._unpacked_bytes = unpacked_bytes
        self._client_id = client_id
        self._patience = patience
        self._client: Any = None
        self._buffers: dict[TopicPartition, FetchBuffer] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answered = 0.0
        self._turn = 0
        self.reconnects = 0
        """The number of times that the cluster was looked up again because no broker answered."""

    async def start(self) -> None:
        self._client = await connect(self._cluster, self._client_id, patience=_START_PATIENCE)
        loop = asyncio.get_running_loop()
        self._answered = loop.time()
        self._task = loop.create_task(self._run())

    async def add(self, partition: TopicPartition, offset: int) -> None:
        await self._track({*self._topics, partition.topic})
        self._buffers[partition] = FetchBuffer(partition, offset, self._unpacked_bytes)
        self._wake.set()

    async def remove(self, partition: TopicPartition) -> None:
        buffer = self._buffers.pop(partition, None)
        if buffer is not None:
            buffer.interrupt()
            await self._track(self._topics)

    async def fetch(self, partition: TopicPartition, *, seconds: float, most: int | None) -> Chunk | None:
        buffer = self._buffers[partition]
        await buffer.wait(seconds)
        if self._task is not None and self._task.done() and not self._task.cancelled():
            raise SourceError("reading from Kafka has failed") from self._task.exception()
        chunk = buffer.take(most)
        if chunk is not None:
            self._wake.set()
        return chunk

    def end(self, partition: TopicPartition) -> int | None:
        buffer = self._buffers.get(partition)
        return None if buffer is None else buffer.end

    async def close(self) -> None:
        for buffer in self._buffers.values():
            buffer.interrupt()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            failing = any(buffer.failing_since is not None for buffer in self._buffers.values())
            if failing and loop.time() - self._answered > _RENEW_AFTER:
                await self._renew()
            leaderless = self._ask_leaders()
            if leaderless:
                unknown = [each for each in leaderless if self._leader(each) is None]
                self._failed([each for each in leaderless if each not in unknown], "it has no leader")
                self._failed(unknown, "the brokers do not know it", gone=True)
                self._refresh()
            with suppress(TimeoutError):
                async with asyncio.timeout(_BACKOFF if leaderless or failing else 1.0):
                    await self._wake.wait()

    def _ask_leaders(self) -> list[FetchBuffer]:
        """Asks each idle broker for the partitions that have room; returns the partitions that no broker leads."""
        room = self._room
        by_node: dict[int, list[FetchBuffer]] = {}
        leaderless: list[FetchBuffer] = []
        for buffer in self._buffers.values():
            node = self._leader(buffer)
            if node is None or node < 0:
                leaderless.append(buffer)
            elif node not in self._asking:
                by_node.setdefault(node, []).append(buffer)
        for node, led in by_node.items():
            wanted = [buffer for buffer in led if buffer.nbytes < room and buffer.error is None]
            if not wanted:
                continue
            # The first partition that has records is answered even if one batch exceeds all limits.
            self._turn += 1
            cut = self._turn % len(wanted)
            wait = _WAIT_MS if len(wanted) == len(led) else _WAIT_FULL_MS
            task = asyncio.get_running_loop().create_task(
                self._ask(node, wanted[cut:] + wanted[:cut], wait, room)
            )
            self._asking[node] = task
        return leaderless

    async def _ask(self, node: int, wanted: list[FetchBuffer], wait: int, room: int) -> None:
        from aiokafka.protocol.fetch import FetchRequest

        by_topic: dict[str, list[tuple[int, int, int]]] = {}
        asked: dict[TopicPartition, tuple[FetchBuffer, int]] = {}
        for buffer in wanted:
            topic, partition = buffer.partition
            by_topic.setdefault(topic, []).append((partition, buffer.ask, room))
            asked[buffer.partition] = (buffer, buffer.ask)
        try:
            response: Any = await self._connected.send(
                node, FetchRequest(wait, 1, _MOST_OF_REQUEST, _COMMITTED_ONLY, list(by_topic.items()))
            )
            self._answered = asyncio.get_running_loop().time()
            for topic, partitions in response.topics:
                for partition, code, high, *rest in partitions:
                    buffer, offset = asked[TopicPartition(topic, partition)]
                    if buffer.ask != offset:
                        continue
                    if code == _OUT_OF_RANGE:
                        await self._out_of_range(node, buffer)
                    else:
                        self._take_in(buffer, code, high, rest)
        except Exception as error:  # noqa: BLE001 — whatever a client raises is tried again for a bounded time
            self._failed(wanted, f"{type(error).__name__}: {error}")
            self._refresh()
            await asyncio.sleep(_BACKOFF)
        finally:
            self._asking.pop(node, None)
            self._wake.set()

    def _take_in(self, buffer: FetchBuffer, code: int, high: int, rest: list[Any]) -> None:
        """Takes in one partition's part of an answer."""
        if code == _NOT_AUTHORIZED:
            buffer.fail(not_allowed(buffer.partition))
            return
        if code:
            from aiokafka.errors import for_code

            self._failed([buffer], for_code(code).__name__, gone=code == _UNKNOWN_TOPIC)
            self._refresh()
            return
        stable, aborted, message_set = rest[0], _aborted(rest), bytes(rest[-1] or b"")
        buffer.end, buffer.appended = high if stable < 0 else stable, high
        where = Where(split=str(buffer.partition), offset=f"offset {buffer.ask}")
        try:
            batches, next_offset = read_batches(message_set, aborted)
        except Exception as error:  # noqa: BLE001 — whatever is wrong with the bytes, asking for them again does not help
            damaged = isinstance(error, DamagedBatchError)
            buffer.fail(
                SourceError(
                    f"the broker's answer is damaged: {error if damaged else repr(error)}",
                    where=where,
                    hint="check the broker's disks and the network",
                )
            )
            return
        if next_offset is None and message_set:
            buffer.fail(
                SourceError(
                    "a batch of records is larger than the largest fetch",
                    where=where,
                    hint="brokers of Kafka 0.10.1 and later send it all the same: the broker is older",
                )
            )
            return
        if next_offset is not None and next_offset <= buffer.ask:
            self._failed([buffer], f"the broker sends records only up to offset {next_offset - 1}")
            return
        if buffer.failing_since is not None:
            buffer.failing_since = None
            _LOG.info("partition is read again", extra=told(split=str(buffer.partition)))
        if next_offset is not None:
            buffer.put(batches, next_offset)

    async def _out_of_range(self, node: int, buffer: FetchBuffer) -> None:
        partition = buffer.partition
        first = (await list_offsets(self._connected, node, {partition: _EARLIEST}))[partition]
        last = (await list_offsets(self._connected, node, {partition: _LATEST}))[partition]
        if first <= buffer.ask <= last:
            # A broker that has just become the leader may be a little behind.
            self._failed([buffer], "OffsetOutOfRange")
            return
        buffer.fail(out_of_range(partition, buffer.ask, first, last))

    def _failed(self, buffers: list[FetchBuffer], why: str, *, gone: bool = False) -> None:
        """Counts time from the first failure on; gives up after the patience is over."""
        now = asyncio.get_running_loop().time()
        for buffer in buffers:
            if buffer.failing_since is None:
                buffer.failing_since = now
                _LOG.warning(
                    "partition cannot be read; trying again", extra=told(split=str(buffer.partition), why=why)
                )
            elif gone and now - buffer.failing_since > _GONE_AFTER:
                buffer.fail(GonePartitionError.of(buffer.partition))
            elif now - buffer.failing_since > self._patience:
                buffer.fail(_of(buffer, unreachable(self._cluster, why)))

    async def _renew(self) -> None:
        """Forgets the brokers that do not answer, and asks the bootstrap addresses again."""
        await self._disconnect()
        loop = asyncio.get_running_loop()
        try:
            self._client = await connect(self._cluster, self._client_id, patience=self._patience)
        except SourceError as error:
            for buffer in self._buffers.values():
                buffer.fail(_of(buffer, error))
            await asyncio.Event().wait()
        self.reconnects += 1
        self._answered = loop.time()
        await self._track(self._topics)

    async def _disconnect(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await closed(client)

    async def _track(self, topics: set[str]) -> None:
        """Makes the client look up the leaders of these topics' partitions."""
        if topics and self._client is not None:
            known = self._client.set_topics(topics)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_AFTER):
                    await known

    @property
    def _topics(self) -> set[str]:
        return {partition.topic for partition in self._buffers}

    def _leader(self, buffer: FetchBuffer) -> int | None:
        """The leading broker; None if no broker knows the partition, -1 if it has no leader just now."""
        node: int | None = self._connected.cluster.leader_for_partition(buffer.partition)
        return node

    def _refresh(self) -> None:
        if self._client is not None:
            self._client.force_metadata_update()

    @property
    def _room(self) -> int:
        """The bytes of one partition that may wait, beside one more answer."""
        share = _BUFFER_BYTES // (2 * max(1, len(self._buffers)))
        return min(_MOST_OF_PARTITION, max(_LEAST_OF_PARTITION, share))

    @property
    def _connected(self) -> Any:
        if self._client is None:
            raise SourceError("the reader is closed")
        return self._client


def _of(buffer: FetchBuffer, error: SourceError) -> SourceError:
    return SourceError(error.message, where=Where(split=str(buffer.partition)), hint=error.hint)


def _aborted(rest: list[Any]) -> list[tuple[int, int]] | None:
    """The aborted transactions of a fetch answer: before the records, and from version 11 on before the preferred
    replica."""
    for part in rest[1:-1]:
        if isinstance(part, list):
            return part  # pyright: ignore[reportUnknownVariableType]
    return None
