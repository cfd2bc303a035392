"""Every client keeps what the port (operators/connectors/kafka/clients/port.py) says: one test for each claim."""

import asyncio
import re
import threading

import pytest

from streamflow.errors import SinkError, SourceError
from streamflow.operators.connectors.kafka.clients.port import (
    OutcomeUnknownError,
    ProducedRecords,
    RefusedError,
    TopicPartition,
)
from tests.kafka.worlds import RealWorld, SimulatedWorld, drain, metadata, reader, records, writer

SECOND = 1_000_000
NOON = 1_795_262_400 * SECOND


@pytest.fixture(params=["aiokafka", "confluent", "simulated"])
def world(request):
    if request.param == "simulated":
        return SimulatedWorld()
    return RealWorld(request.getfixturevalue("kafka"), request.param)


@pytest.fixture
def topic(world):
    return world.topic(2)


def numbered(count, start=0):
    return [b"%d" % number for number in range(start, start + count)]


def put(world, topic, values, partition=0, **how):
    world.produce(topic, [(None, value, partition) for value in values], **how)


async def publish(out, *written):
    await out.begin()
    for each in written:
        await out.write(each)
    await out.commit()


# Reading.


def test_a_chunk_has_the_columns_of_its_records(world, topic):
    headers = [("a", b"1"), ("b", None), ("a", b"2")]
    world.produce(
        topic,
        [(b"k", b"v", 0, NOON, headers), (None, b"w", 0, NOON + SECOND), (b"k", None, 0, NOON + 2 * SECOND)],
    )

    async def work():
        async with reader(world) as log:
            partition = TopicPartition(topic, 0)
            await log.add(partition, 0)
            chunk = await log.fetch(partition, seconds=20, most=None)
            assert len(chunk) == 3
            assert chunk.nbytes > 0
            assert chunk.next_offset == 3
            assert list(await asyncio.to_thread(chunk.values)) == [b"v", b"w", None]
            assert list(chunk.keys()) == [b"k", None, b"k"]
            assert list(chunk.offsets()) == [0, 1, 2]
            assert list(chunk.milliseconds()) == [NOON // 1000 + 1000 * n for n in range(3)]
            assert chunk.flaws() == {}
            assert list(chunk.timestamps()) == [NOON, NOON + SECOND, NOON + 2 * SECOND]
            assert [list(each) for each in chunk.headers()] == [headers, [], []]
            assert list(chunk.values()) == [b"v", b"w", None], "asked for a second time"

    world.run(work())


def test_reading_begins_at_the_offset(world, topic):
    put(world, topic, numbered(100))

    async def work():
        async with reader(world) as log:
            await log.add(TopicPartition(topic, 0), 37)
            assert await drain(log, TopicPartition(topic, 0), 100) == numbered(63, 37)

    world.run(work())


def test_a_partition_that_is_added_does_not_disturb_the_others(world, topic):
    put(world, topic, numbered(2000), 0)
    put(world, topic, numbered(2000), 1)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def work():
        async with reader(world) as log:
            await log.add(first, 0)
            begun = await log.fetch(first, seconds=20, most=10)
            await log.add(second, 0)
            assert await drain(log, second, 2000) == numbered(2000)
            assert [*begun.values(), *await drain(log, first, 2000)] == numbered(2000)

    world.run(work())


def test_a_partition_that_is_removed_does_not_disturb_the_others_and_can_come_back(world, topic):
    put(world, topic, numbered(500), 0)
    put(world, topic, numbered(500), 1)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def work():
        async with reader(world) as log:
            await log.add(first, 0)
            await log.add(second, 0)
            await log.fetch(first, seconds=20, most=10)
            await log.fetch(second, seconds=20, most=10)
            await log.remove(first)
            assert await drain(log, second, 500) == numbered(490, 10)
            await log.add(first, 5)
            assert await drain(log, first, 500) == numbered(495, 5)

    world.run(work())


def test_a_fetch_returns_as_soon_as_there_is_something(world, topic):
    partition = TopicPartition(topic, 0)

    async def work():
        loop = asyncio.get_running_loop()
        async with reader(world) as log, writer(world) as out:
            await log.add(partition, 0)
            waiting = asyncio.ensure_future(log.fetch(partition, seconds=50, most=None))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            before = loop.time()
            await out.write(records(partition, b"late"))
            chunk = await waiting
            assert chunk.values() == [b"late"]
            assert loop.time() - before < 25

    world.run(work())


def test_a_fetch_without_records_gives_none_after_its_time(world, topic):
    async def work():
        async with reader(world) as log:
            await log.add(TopicPartition(topic, 0), 0)
            before = asyncio.get_running_loop().time()
            assert await log.fetch(TopicPartition(topic, 0), seconds=0.2, most=None) is None
            assert asyncio.get_running_loop().time() - before >= 0.19

    world.run(work())


def test_no_more_than_asked_for(world, topic):
    put(world, topic, numbered(1000))

    async def work():
        async with reader(world) as log:
            await log.add(TopicPartition(topic, 0), 0)
            assert await drain(log, TopicPartition(topic, 0), 1000, most=77) == numbered(1000)

    world.run(work())


def test_cancelling_a_fetch_consumes_nothing(world, topic):
    partition = TopicPartition(topic, 0)

    async def work():
        found = []
        async with reader(world) as log, writer(world) as out:
            await log.add(partition, 0)
            for number in range(30):
                fetching = asyncio.ensure_future(log.fetch(partition, seconds=5, most=3))
                await asyncio.sleep(0.002 * (number % 5))
                await out.write(records(partition, *numbered(5, 5 * number)))
                await asyncio.sleep(0.003 * (number % 4))
                fetching.cancel()
                done = (await asyncio.gather(fetching, return_exceptions=True))[0]
                if not isinstance(done, BaseException) and done is not None:
                    found += done.values()
            await out.flush()
            while len(found) < 150:
                chunk = await log.fetch(partition, seconds=10, most=None)
                assert chunk is not None, f"{150 - len(found)} records are gone"
                found += chunk.values()
        assert found == numbered(150)

    world.run(work())


def test_a_partition_that_nobody_fetches_loses_nothing_while_others_are_read(world, topic):
    values = [b"%04d" % number + b"x" * 1000 for number in range(3000)]
    put(world, topic, values, 0)
    put(world, topic, values, 1)
    slow, quick = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def work():
        async with reader(world) as log:
            await log.add(slow, 0)
            await log.add(quick, 0)
            begun = await log.fetch(slow, seconds=20, most=1)
            assert await drain(log, quick, 3000) == values
            assert [*begun.values(), *await drain(log, slow, 3000, most=500)] == values

    world.run(work())


def test_aborted_records_are_not_shown_and_the_position_goes_beyond_them(world, topic):
    put(world, topic, [b"a", b"b"], transaction="commit")
    put(world, topic, [b"never"] * 3, transaction="abort")
    put(world, topic, [b"c"])
    put(world, topic, [b"never"], transaction="abort")
    partition = TopicPartition(topic, 0)

    async def work():
        async with reader(world) as log, metadata(world) as about:
            end = (await about.offsets([partition], "latest"))[partition]
            assert end == 2 + 1 + 3 + 1 + 1 + 1 + 1  # with three markers
            await log.add(partition, 0)
            assert await drain(log, partition, end) == [b"a", b"b", b"c"]
            assert log.end(partition) == end

    world.run(work())


def test_only_the_position_moves_where_nothing_is_to_be_seen(world, topic):
    put(world, topic, [b"never"] * 3, transaction="abort")

    async def work():
        async with reader(world) as log:
            await log.add(TopicPartition(topic, 0), 1)
            chunk = await log.fetch(TopicPartition(topic, 0), seconds=20, most=None)
            assert len(chunk) == 0
            assert chunk.next_offset == 4

    world.run(work())


def test_a_transaction_is_seen_when_it_is_committed_and_not_before(world, topic):
    put(world, topic, [b"before"])
    partition = TopicPartition(topic, 0)

    async def work():
        async with reader(world) as log, metadata(world) as about, writer(world, world.name()) as out:
            await out.begin()
            await out.write(records(partition, b"within"))
            await out.flush()
            await log.add(partition, 0)
            assert log.end(partition) is None
            assert await drain(log, partition, 1) == [b"before"]
            assert (await about.offsets([partition], "latest"))[partition] == 1
            # A client may know the end of the log before it has seen how far committed records go.
            for _ in range(30):
                assert await log.fetch(partition, seconds=0.3, most=None) is None
                if log.end(partition) == 1:
                    break
            assert log.end(partition) == 1
            await out.commit()
            chunk = await log.fetch(partition, seconds=20, most=None)
            assert chunk.values() == [b"within"]

    world.run(work())


def test_an_offset_beyond_the_end_is_an_error(world, topic):
    put(world, topic, numbered(3))

    async def work():
        async with reader(world) as log:
            await log.add(TopicPartition(topic, 0), 7)
            with pytest.raises(SourceError, match=rf"{topic}-0.*offset 7 is not in the log.* 0 to 3"):
                await log.fetch(TopicPartition(topic, 0), seconds=20, most=None)

    world.run(work())


def test_an_offset_that_was_deleted_is_an_error(world, topic):
    put(world, topic, numbered(5))
    world.delete_before(TopicPartition(topic, 0), 3)

    async def work():
        async with reader(world) as log:
            await log.add(TopicPartition(topic, 0), 2)
            with pytest.raises(SourceError, match=rf"{topic}-0.*offset 2 is not in the log.* 3 to 5"):
                await log.fetch(TopicPartition(topic, 0), seconds=20, most=None)

    world.run(work())


def test_the_end_of_the_log_is_a_place_to_read_from(world, topic):
    put(world, topic, numbered(3))

    async def work():
        async with reader(world) as log, writer(world) as out:
            await log.add(TopicPartition(topic, 0), 3)
            assert await log.fetch(TopicPartition(topic, 0), seconds=0.2, most=None) is None
            await out.write(records(TopicPartition(topic, 0), b"next"))
            assert await drain(log, TopicPartition(topic, 0), 4) == [b"next"]

    world.run(work())


def test_a_closed_client_leaves_nothing_behind(world, topic):
    put(world, topic, numbered(3))

    async def work():
        async with reader(world) as log, metadata(world) as about:
            await about.offsets([TopicPartition(topic, 0)], "latest")
            await log.add(TopicPartition(topic, 0), 0)
            await drain(log, TopicPartition(topic, 0), 3)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)
        assert not asyncio.all_tasks() - {asyncio.current_task()}

    world.run(work())
    for thread in threading.enumerate():
        if thread.name.startswith("streamflow-kafka"):
            thread.join(5)
            assert not thread.is_alive()


# Looking things up.


def test_partitions_by_name_and_by_pattern(world, topic):
    other = world.topic(3)
    partition = TopicPartition(topic, 0)

    async def work():
        async with metadata(world) as about:
            assert await about.partitions([topic, world.name()]) == {topic: 2}
            assert await about.partitions(re.compile(f"{topic}|{other[:-1]}")) == {topic: 2}
            await about.commit(world.name(), {partition: 0})  # the broker makes its own topic for it
            everything = await about.partitions(re.compile(".*"))
            assert everything[other] == 3
            assert "__consumer_offsets" not in everything

    world.run(work())


def test_the_end_of_what_is_appended_lies_behind_what_is_not_decided(world, topic):
    put(world, topic, [b"a"])
    partition = TopicPartition(topic, 0)

    async def work():
        async with writer(world, world.name()) as out, metadata(world) as about:
            await out.begin()
            await out.write(records(partition, b"b", b"c"))
            await out.flush()
            assert await about.offsets([partition], "latest") == {partition: 1}
            assert await about.offsets([partition], "appended") == {partition: 3}
            await out.abort()

    world.run(work())


def test_offsets_by_place_and_time(world, topic):
    world.produce(topic, [(None, b"v", 0, NOON + number * SECOND) for number in range(4)])
    partition, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    world.delete_before(partition, 1)

    async def work():
        async with metadata(world) as about:
            assert await about.offsets([partition, empty], "earliest") == {partition: 1, empty: 0}
            assert await about.offsets([partition, empty], "latest") == {partition: 4, empty: 0}
            for at, expected in [
                (NOON, 1),
                (NOON + SECOND, 1),
                (NOON + SECOND + 1, 2),
                (NOON + 3 * SECOND, 3),
                (NOON + 3 * SECOND + 1, 4),
            ]:
                found = await about.offsets([partition, empty], at)
                assert found == {partition: expected, empty: 0}, at

    world.run(work())


def test_committed_offsets_are_told_to_the_group(world, topic):
    put(world, topic, numbered(9))
    partition, other = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def work():
        group = world.name()
        async with metadata(world) as about:
            assert await about.offsets([partition, other], "committed", group=group) == {}
            await about.commit(group, {partition: 4})
            await about.commit(group, {partition: 6})
            assert await about.offsets([partition, other], "committed", group=group) == {partition: 6}

    world.run(work())


def test_a_topic_is_made_once_and_can_be_used_at_once(world):
    topic = world.name()

    async def work():
        async with metadata(world) as about, writer(world) as out:
            assert await about.create_topic(topic, partitions=2, config={"max.message.bytes": "12345"})
            assert await about.partitions([topic]) == {topic: 2}
            assert not await about.create_topic(topic, partitions=5)
            assert await about.partitions([topic]) == {topic: 2}
            assert (await about.topic_settings(topic))["max.message.bytes"] == "12345"
            await out.write(records(TopicPartition(topic, 1), b"v"))
            await out.flush()

    world.run(work())


def test_what_cannot_be_made_is_refused_at_once(world):
    async def work():
        async with metadata(world) as about:
            with pytest.raises(SourceError):
                await about.create_topic("no/name", partitions=1)

    world.run(asyncio.wait_for(work(), 20))


# Writing.


def test_what_is_written_is_read(world, topic):
    partition = TopicPartition(topic, 1)
    headers = [("a", b"1"), ("b", None), ("a", b"2")]
    written = ProducedRecords(
        partition, [b"v", None, b"w"], [b"k", b"l", None], [NOON, NOON - SECOND, None], [headers, (), ()]
    )

    async def work():
        async with writer(world) as out, reader(world) as log:
            await out.write(written)
            await out.flush()
            await log.add(partition, 0)
            chunk = await log.fetch(partition, seconds=20, most=None)
            assert list(chunk.values()) == [b"v", None, b"w"]
            assert list(chunk.keys()) == [b"k", b"l", None]
            assert [list(each) for each in chunk.headers()] == [headers, [], []]
            *given, now = chunk.timestamps()
            assert given == [NOON, NOON - SECOND]
            assert now % 1000 == 0

    world.run(work())


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "zstd"])
def test_every_compression_is_read(world, topic, compression):
    async def work():
        async with writer(world, compression=compression) as out, reader(world) as log:
            await out.write(records(TopicPartition(topic, 0), *numbered(100)))
            await out.flush()
            await log.add(TopicPartition(topic, 0), 0)
            assert await drain(log, TopicPartition(topic, 0), 100) == numbered(100)

    world.run(work())


def test_what_is_aborted_is_never_seen(world, topic):
    partition = TopicPartition(topic, 0)

    async def work():
        async with writer(world, world.name()) as out:
            await out.begin()
            await out.write(records(partition, b"never"))
            await out.flush()
            await out.abort()
        async with writer(world) as out, reader(world) as log:
            await out.write(records(partition, b"after"))
            await out.flush()
            await log.add(partition, 0)
            assert await drain(log, partition, 3) == [b"after"]

    world.run(work())


def test_a_new_producer_aborts_what_its_forerunner_left_open(world, topic):
    partition, name = TopicPartition(topic, 0), world.name()

    async def work():
        async with writer(world, name) as forerunner, writer(world, name) as out, reader(world) as log:
            # Fenced before it has begun.
            await out.begin()
            await out.write(records(partition, b"left open"))
            await out.flush()
            async with writer(world, name) as heir:
                await heir.begin()
                await heir.write(records(partition, b"public"))
                await heir.commit()
            with pytest.raises((SinkError, OutcomeUnknownError)):
                await out.commit()
            with pytest.raises((SinkError, OutcomeUnknownError)):
                await publish(forerunner, records(partition, b"of a zombie"))
            await log.add(partition, 0)
            assert await drain(log, partition, 4) == [b"public"]

    world.run(work())


def test_a_record_that_is_too_large_is_refused_and_nothing_is_public(world):
    topic = world.topic(1, max_message_bytes=2000)
    partition = TopicPartition(topic, 0)

    async def work():
        async with writer(world, world.name(), compression=None) as out:
            with pytest.raises(RefusedError):
                await publish(out, records(partition, b"small"), records(partition, b"x" * 5000))
        async with metadata(world) as about:
            # It is the next producer that aborts what was begun.
            assert (await about.offsets([partition], "latest"))[partition] == 0

    world.run(work())


def test_a_partition_that_is_not_there_is_refused(world, topic):
    async def work():
        async with writer(world, world.name()) as out:
            with pytest.raises(SinkError):
                await publish(out, records(TopicPartition(topic, 7), b"v"))

    world.run(work())
