"""What the readers of one source share: one log reader, closed by the last; a reader that is stuck is made anew."""

import asyncio
from dataclasses import dataclass

from streamflow.errors import SourceError
from streamflow.metrics.registry import OperatorMetrics
from streamflow.operators.connectors.kafka.client import TopicPartition
from streamflow.operators.connectors.kafka.session import KafkaSession
from tests.unit.connectors.driving import JumpingClock, source_context

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


@dataclass
class Chunk:
    next_offset: int


class Reader:
    def __init__(self, client):
        self.client = client
        self.positions = {}
        self.closed = False

    async def start(self):
        if self.client.down:
            raise SourceError("no broker answers")
        self.client.readers.append(self)

    async def add(self, partition, offset):
        self.positions[partition] = offset

    async def remove(self, partition):
        del self.positions[partition]

    async def fetch(self, partition, *, seconds, most):
        self.client.clock.time += seconds
        return None if self.client.stuck is self else Chunk(self.positions[partition] + 5)

    def end(self, partition):
        return 100

    async def close(self):
        self.closed = True


class Client:
    def __init__(self):
        self.clock = JumpingClock()
        self.readers = []
        self.stuck = None
        self.down = False

    def reader(self, *, client_id):
        return Reader(self)


async def reading(client, ctx=None):
    """A session that reads A from its beginning and B from 40 on."""
    session = KafkaSession(client, "test", ctx or source_context(clock=client.clock))
    await session.open(A, 0)
    await session.open(B, 40)
    return session


async def get_stuck(client, session):
    """The reader gives nothing of A any more, for longer than that is put up with; what came of each attempt."""
    [client.stuck] = client.readers
    return [await session.fetch(A, seconds=1, most=None) for _ in range(11)]


def test_one_reader_for_all_closed_by_the_last():
    client = Client()

    async def run():
        session = KafkaSession(client, "test", source_context(clock=client.clock))
        await session.open(A, 3)
        await session.open(B, 4)
        await session.close(A)
        [reader] = client.readers
        assert (reader.positions, reader.closed) == ({B: 4}, False)
        await session.close(B)
        await session.close(B)
        assert reader.closed

    asyncio.run(run())


def test_a_partition_that_has_records_and_gives_none_gets_a_new_reader():
    client = Client()
    metrics = OperatorMetrics("read-1", 0)

    async def run():
        ctx = source_context(clock=client.clock)
        object.__setattr__(ctx, "metrics", metrics)
        session = await reading(client, ctx)
        await session.fetch(A, seconds=1, most=None)
        assert await get_stuck(client, session) == [None] * 11
        first, second = client.readers
        assert first.closed
        assert second.positions == {A: 5, B: 40}
        assert await session.fetch(A, seconds=1, most=None) == Chunk(10)

    asyncio.run(run())
    assert metrics.value_of("streamflow_kafka_reconnects_total") == 1
    assert metrics.value_of("streamflow_kafka_lag_records") == 90


def test_a_reader_that_is_stuck_is_kept_while_there_is_no_other():
    client = Client()

    async def run():
        session = await reading(client)
        client.down = True
        assert await get_stuck(client, session) == [None] * 11
        [first] = client.readers
        assert not first.closed
        client.stuck = None
        assert await session.fetch(B, seconds=1, most=None) == Chunk(45)
        assert await session.fetch(A, seconds=1, most=None) == Chunk(5)

    asyncio.run(run())


def test_what_the_old_reader_still_gives_is_not_taken():
    client = Client()

    async def run():
        session = await reading(client)
        [old] = client.readers
        held, fetch = asyncio.Event(), old.fetch

        async def slow(partition, **options):
            if partition == B:
                await held.wait()
            return await fetch(partition, **options)

        old.fetch = slow
        waiting = asyncio.create_task(session.fetch(B, seconds=1, most=None))
        await asyncio.sleep(0)
        await get_stuck(client, session)
        client.stuck = None
        held.set()
        assert await waiting is None
        assert await session.fetch(B, seconds=1, most=None) == Chunk(45)

    asyncio.run(run())
