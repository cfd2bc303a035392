"""The readers of one source share one log reader, closed by the last; a reader that is stuck is made again."""

import asyncio
from dataclasses import dataclass, replace

from streamflow.errors import SourceError
from streamflow.observe.registry import MetricsRegistry, OperatorMetrics
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.session import KafkaSession
from streamflow.operators.connectors.kafka.split_reader import PartitionReader
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
        if self.client.slow is not None:
            self.client.slow.set()
            await asyncio.Event().wait()

    async def remove(self, partition):
        del self.positions[partition]

    async def fetch(self, partition, *, seconds, most):
        self.client.clock.time += seconds
        return None if self.client.stuck is self else Chunk(self.positions[partition] + 5)

    def end(self, partition):
        return 100

    async def close(self):
        self.closed = True


class Lookups:
    """A connection that answers when it is told to, and not once it is closed."""

    def __init__(self):
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def start(self):
        assert not self.closed

    async def offsets(self, partitions, at, *, group=None):
        self.asked.set()
        await self.answer.wait()
        assert not self.closed, "closed while it was asked"
        return dict.fromkeys(partitions, 7)

    async def commit(self, group, offsets):
        assert not self.closed

    async def close(self):
        assert not self.closed, "closed twice"
        self.closed = True


class Client:
    def __init__(self):
        self.lookups = []
        self.clock = JumpingClock()
        self.readers = []
        self.stuck = None
        self.down = False
        self.slow: asyncio.Event | None = None

    def reader(self, *, client_id):
        return Reader(self)

    def metadata(self, *, client_id):
        self.lookups.append(Lookups())
        return self.lookups[-1]


def test_what_a_split_has_opened_when_it_is_cancelled_is_closed_with_it():
    async def run():
        client = Client()
        client.slow = begun = asyncio.Event()
        session = KafkaSession(client, "test", source_context(clock=client.clock))
        split = PartitionReader(session, A, start=0, end=None, batches=None, most=10)
        fetching = asyncio.create_task(split.fetch())
        await begun.wait()
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        await split.close()
        return client.readers[0].closed

    assert asyncio.run(run())


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


def test_offsets_that_are_looked_up_while_the_last_reader_closes_are_answered():
    async def run():
        client = Client()
        session = KafkaSession(client, "test", source_context(clock=client.clock))

        async def look():
            async with session.metadata() as metadata:
                return await metadata.offsets([A], "latest")

        await session.open(A, 3)
        looking = asyncio.create_task(look())
        await asyncio.sleep(0)
        [lookups] = client.lookups
        await lookups.asked.wait()
        await session.commit("group", {A: 5})
        await session.close(A)
        assert not lookups.closed
        lookups.answer.set()
        assert await looking == {A: 7}
        assert lookups.closed
        await session.commit("group", {A: 7})
        assert [each.closed for each in client.lookups] == [True, True]

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


def test_what_is_behind_an_open_transaction_is_told_until_the_partition_is_closed():
    client, registry = Client(), MetricsRegistry(job="orders")
    undecided = "streamflow_kafka_undecided_records"

    async def run():
        metrics = registry.operator("read-1", 0)
        session = await reading(client, replace(source_context(clock=client.clock), metrics=metrics))
        session.tell_ends({A: 100, B: 50}, {A: 130, B: 50})
        assert registry.total(undecided, "read-1") == 30
        # The transaction has ended: its records count for the lag now.
        session.tell_ends({A: 130, B: 50}, {A: 130, B: 55})
        assert registry.total(undecided, "read-1") == 5
        # A log of which no more is known is behind nothing.
        session.tell_ends({A: 130, B: 50}, {A: 130})
        assert registry.total(undecided, "read-1") == 0
        session.tell_ends({A: 130}, {A: 140})
        await session.close(A)
        assert registry.total(undecided, "read-1") == 0
        await session.close(B)

    asyncio.run(run())
