"""Where a client of the port is tested: a broker with a way to make topics and to write to them beside the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Literal, Protocol

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import TopicPartition as Place

from streamflow.operators.connectors.kafka.clients.port import (
    KafkaClient,
    LogReader,
    LogWriter,
    Metadata,
    ProducedRecords,
    TopicPartition,
)
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.testing.simulation.loop import SimLoop
from tests.kafka.simulated_client import SimKafka
from tests.kafka.simulated_log import SimLog
from tests.kafka.topics import Topics

__all__ = ["RealWorld", "SimulatedWorld", "World", "drain", "metadata", "reader", "records", "writer"]


class World(Protocol):
    client: KafkaClient

    def run(self, work: Coroutine[Any, Any, Any]) -> Any: ...

    def name(self) -> str: ...

    def topic(self, partitions: int = 1, **config: Any) -> str: ...

    def produce(
        self,
        topic: str,
        records: Iterable[Sequence[Any]],
        *,
        transaction: Literal["commit", "abort"] | None = None,
    ) -> None: ...

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """As retention does."""
        ...


class RealWorld:
    def __init__(self, topics: Topics, kind: str) -> None:
        self.client = Cluster(topics.bootstrap).client(kind)
        self.name = topics.name
        self.topic = topics.topic
        self.produce = topics.produce
        self._bootstrap = topics.bootstrap

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        for done in admin.delete_records([Place(*partition, offset)]).values():
            done.result(30)


class SimulatedWorld:
    """No broker, no time: under the simulator's event loop."""

    def __init__(self) -> None:
        self.log = SimLog()
        self.client = SimKafka(self.log)
        self._names = count()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return SimLoop(1).run(work)

    def name(self) -> str:
        return f"test-{next(self._names)}"

    def topic(self, partitions: int = 1, **config: Any) -> str:
        topic = self.name()
        self.log.create(topic, partitions, {name.replace("_", "."): str(config[name]) for name in config})
        return topic

    def produce(
        self,
        topic: str,
        records: Iterable[Sequence[Any]],
        *,
        transaction: Literal["commit", "abort"] | None = None,
    ) -> None:
        producer, epoch = (None, 0) if transaction is None else self.log.start_producer(self.name())
        for record in records:
            key, value, partition, timestamp, headers = (*record, None, None, None)[:5]
            at = TopicPartition(topic, partition or 0)
            one = ProducedRecords(at, [value], [key], [timestamp], [headers or ()])
            self.log.append(producer, epoch, one, 0)
        if producer is not None and transaction is not None:
            self.log.end_transaction(producer, epoch, transaction)

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        log = self.log.partition(partition)
        assert log is not None
        log.start = offset


@asynccontextmanager
async def reader(world: World) -> AsyncGenerator[LogReader]:
    made = world.client.reader(client_id="test")
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def metadata(world: World) -> AsyncGenerator[Metadata]:
    made = world.client.metadata(client_id="test")
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def writer(
    world: World, transactional_id: str | None = None, **options: Any
) -> AsyncGenerator[LogWriter]:
    settings = {"transaction_timeout": 20_000_000, "compression": "lz4", **options}
    made = world.client.writer(client_id="test", transactional_id=transactional_id, **settings)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def drain(
    log: LogReader, partition: TopicPartition, until: int, *, most: int | None = None
) -> list[Any]:
    """The values up to where the position is `until`."""
    found: list[Any] = []
    position = -1
    while position < until:
        chunk = await log.fetch(partition, seconds=20, most=most)
        assert chunk is not None, f"{partition}: nothing behind {position}"
        assert most is None or len(chunk) <= most
        assert chunk.next_offset >= position
        found += chunk.values()
        position = chunk.next_offset
    assert position == until
    return found


def records(partition: TopicPartition, *values: bytes | None) -> ProducedRecords:
    count = len(values)
    return ProducedRecords(partition, values, [None] * count, [None] * count, [()] * count)
