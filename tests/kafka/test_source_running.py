"""A Kafka source in a job that goes on: new partitions and topics, checkpoints, groups, lag, alignment, idleness."""

import asyncio
import gc
import json
import re
import time
from datetime import UTC, datetime

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

import streamflow as sf
from streamflow.errors import SourceError, StateError
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.source import KafkaSource

N = {"n": sf.Int64}
NOW = int(time.time()) * 1_000_000


def numbers(*values, partition=0, at=0):
    return [(None, json.dumps({"n": n}), partition, NOW + (at + n) * 1_000_000) for n in values]


class Sunk:
    """The rows that have arrived; `until` waits for so many."""

    def __init__(self):
        self.rows = []
        self._more = asyncio.Event()

    @property
    def sink(self):
        async def store(rows):
            self.rows += rows
            self._more.set()

        return sf.sink(store)

    @property
    def numbers(self):
        return sorted(row["n"] for row in self.rows)

    async def until(self, count):
        async with asyncio.timeout(60):
            while len(self.rows) < count:
                self._more.clear()
                await self._more.wait()
        return self.numbers


def copying(kafka, topics, sunk, **options):
    job = sf.Job("copy")
    source = KafkaSource(topics, kafka.bootstrap, **{"schema": N, **options})
    job.read(source, watermark=sf.bounded_disorder("0s")).write(sunk.sink)
    return job


def test_partitions_and_topics_that_come_later_are_found(kafka):
    first = kafka.topic()
    kafka.produce(first, numbers(1, 5))

    async def run():
        sunk = Sunk()
        since = datetime.fromtimestamp(NOW / 1e6 + 5, UTC)
        pattern = re.compile(f"{first}(-more)?")
        handle = await copying(kafka, pattern, sunk, discover_every="100ms", start=since).start(
            mode="streaming"
        )
        await sunk.until(1)
        kafka.grow(first, 2)
        kafka.produce(first, numbers(2, partition=1))
        await sunk.until(2)
        more = kafka.topic(name=f"{first}-more")
        kafka.produce(more, numbers(3))
        await sunk.until(3)
        kafka.produce(first, numbers(4))
        seen = await sunk.until(4)
        await handle.stop()
        return seen

    # The start is for what was there then; what comes later is read from its beginning.
    assert asyncio.run(run()) == [2, 3, 4, 5]


def test_a_job_goes_on_where_its_checkpoint_was(kafka, tmp_path, caplog):
    caplog.set_level("INFO", "streamflow.kafka")
    topic = kafka.topic(2)
    kafka.produce(topic, numbers(-1))
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path), "checkpoint_interval": "50ms"}

    def told():
        return [record.told for record in caplog.records if hasattr(record, "told")]

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, topic, sunk, start="latest").start(**settings)
        for _ in range(1000):
            if {"split": f"{topic}-1", "start": 0, "end": None} in told():
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("no partition was found")
        await handle.checkpoint()
        await handle.stop()
        assert sunk.rows == []
        # "latest" was looked up when the job first started: what came while it was away is read.
        kafka.produce(topic, [*numbers(0, 1, 2), *numbers(3, partition=1)])
        handle = await copying(kafka, topic, sunk, start="latest").start(**settings)
        await sunk.until(4)
        await handle.stop()
        kafka.produce(topic, numbers(4, 5))
        handle = await copying(kafka, topic, sunk, start="earliest").start(**settings)
        seen = await sunk.until(6)
        await handle.stop()
        return seen

    assert asyncio.run(run()) == [0, 1, 2, 3, 4, 5]


def test_a_checkpoint_ahead_of_a_topic_that_was_made_anew_is_refused(kafka, tmp_path):
    topic = kafka.topic()
    kafka.produce(topic, numbers(*range(10)))
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path), "restart": "none"}

    async def run():
        handle = await copying(kafka, topic, sunk := Sunk()).start(**settings)
        await sunk.until(10)
        await handle.stop()
        kafka.delete(topic)
        kafka.topic(name=topic)
        handle = await copying(kafka, topic, Sunk()).start(**settings)
        async with asyncio.timeout(60):
            try:
                await handle.wait()
            except sf.StreamflowError as error:
                return str(error)
            raise AssertionError("it goes on")

    assert f"topic {topic!r} was deleted and made again" in asyncio.run(run())


def test_topics_are_called_as_kafka_s_own_tools_call_them(kafka):
    topics = [
        kafka.topic() for _ in range(12)
    ]  # in most of so many ids are characters that are written in two ways

    async def told():
        metadata = Cluster(kafka.bootstrap).client().metadata(client_id="ids")
        await metadata.start()
        ids = await metadata.topic_ids(topics)
        await metadata.close()
        return ids

    ids = asyncio.run(told())
    assert re.search("[-_]", "".join(ids.values()))
    # Another client's words for them, in the characters of Kafka's own tools.
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    described = admin.describe_topics(TopicCollection(topics))
    others = {topic: str(each.result(30).topic_id) for topic, each in described.items()}
    assert ids == {topic: id.translate(str.maketrans("+/", "-_")) for topic, id in others.items()}


@pytest.mark.parametrize("client", ["aiokafka", "confluent"])
def test_a_topic_that_was_made_again_is_not_read_on_in_its_middle(kafka, client, tmp_path):
    topic, other = kafka.topic(), kafka.topic()
    kafka.produce(topic, numbers(1, 2))
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path)}

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, [topic, other], sunk, client=client).start(**settings)
        await sunk.until(2)
        await handle.stop()
        kafka.delete(topic)
        kafka.topic(name=topic)
        kafka.produce(topic, numbers(3, 4, 5))
        # The clients call it the same.
        for each in ("aiokafka", "confluent"):
            handle = await copying(kafka, [topic, other], sunk, client=each).start(**settings)
            with pytest.raises(SourceError, match=f"topic '{topic}' was deleted and made again"):
                await handle.wait()
        handle = await copying(kafka, [other], sunk, client=client).start(**settings)
        await handle.checkpoint()
        await handle.stop()
        handle = await copying(kafka, [topic, other], sunk, client=client).start(**settings)
        seen = await sunk.until(5)
        await handle.stop()
        return seen

    assert asyncio.run(run()) == [1, 2, 3, 4, 5]
    gc.collect()


def test_a_topic_that_is_made_again_while_it_is_read_ends_the_job(kafka, tmp_path):
    topic = kafka.topic()
    kafka.produce(topic, numbers(1, 2))

    async def run():
        sunk = Sunk()
        job = copying(kafka, topic, sunk, discover_every="100ms")
        handle = await job.start(mode="streaming", checkpoint_dir=str(tmp_path))
        await sunk.until(2)
        await handle.checkpoint()  # without one a restart would begin with the new topic
        kafka.delete(topic)
        kafka.topic(name=topic)
        async with asyncio.timeout(60):
            with pytest.raises(SourceError, match=f"topic '{topic}' was deleted and made again"):
                await handle.wait()

    asyncio.run(run())
    gc.collect()


def test_checkpoints_tell_the_group_and_a_job_without_one_can_start_there(kafka, tmp_path):
    topic, group = kafka.topic(2), kafka.name()
    kafka.produce(topic, [*numbers(0, 1, 2), *numbers(3, partition=1)])

    async def run():
        first = Sunk()
        handle = await copying(kafka, topic, first, group_id=group).start(
            mode="streaming", checkpoint_dir=str(tmp_path)
        )
        await first.until(4)
        await handle.checkpoint()
        await handle.stop()
        told = kafka.committed(group, topic)
        kafka.produce(topic, numbers(4))
        second = Sunk()
        handle = await copying(kafka, topic, second, group_id=group, start="committed").start(
            mode="streaming"
        )
        seen = await second.until(1)
        await handle.stop()
        # A group that has committed nothing starts at the beginning.
        third = Sunk()
        handle = await copying(kafka, topic, third, group_id=kafka.name(), start="committed").start(
            mode="streaming"
        )
        everything = await third.until(5)
        await handle.stop()
        return told, seen, everything

    assert asyncio.run(run()) == ({0: 3, 1: 1}, [4], [0, 1, 2, 3, 4])


def test_the_split_furthest_behind_is_read_first_and_the_others_wait(kafka):
    topic = kafka.topic(2)
    kafka.produce(topic, [*numbers(*range(1000), at=-86_400), *numbers(*range(1000), partition=1)])

    async def run():
        sunk = Sunk()
        source_options = {"end": "latest", "include": ["partition"]}
        job = copying(kafka, topic, sunk, **source_options)
        handle = await job.start(mode="streaming", batch_rows=50)
        async with asyncio.timeout(60):
            await handle.wait()
        return [row["partition"] for row in sunk.rows]

    order = asyncio.run(run())
    assert len(order) == 2000
    last_behind = len(order) - 1 - order[::-1].index(0)
    # One batch of the split ahead tells how far ahead it is.
    assert order[: last_behind + 1].count(1) <= 50


def test_what_nobody_takes_is_not_read_on(kafka):
    topic = kafka.topic(2)
    letters = ["".join(chr(33 + (i * j) % 90) for i in range(1000)) for j in range(1, 60)]
    for partition in (0, 1):
        kafka.produce(topic, [(None, letters[i % 59], partition) for i in range(6_000)])

    async def run():
        reader = Cluster(kafka.bootstrap).client().reader(client_id="test")
        await reader.start()
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await reader.add(first, 0)
        await reader.add(second, 0)
        read, offset = 0, 0
        async with asyncio.timeout(60):
            while offset < 6_000:
                chunk = await reader.fetch(first, seconds=1, most=None)
                if chunk is not None:
                    read, offset = read + len(chunk), chunk.next_offset
        waiting = await reader.fetch(second, seconds=1, most=None)
        await reader.close()
        assert waiting is not None
        return read, waiting.nbytes

    read, waiting = asyncio.run(run())
    assert read == 6_000
    assert waiting < 3 << 20


def test_a_quiet_partition_does_not_hold_the_watermark_back_when_it_may_be_idle(kafka):
    topic = kafka.topic(2)
    kafka.produce(topic, [*numbers(0), *numbers(0, partition=1)])

    async def run():
        read, sunk = Sunk(), Sunk()
        job = sf.Job("idle")
        source = KafkaSource(topic, kafka.bootstrap, schema=N)
        rows = job.read(source, watermark=sf.bounded_disorder("0s", idle_after="500ms"))
        rows.write(read.sink)
        windows = rows.key_by(sf.lit(1).alias("all")).window(sf.tumbling("10s")).aggregate(n=sf.count())
        windows.write(sunk.sink)
        handle = await job.start(mode="streaming")
        # However late it is read, the quiet partition's record is in the first window.
        await read.until(2)
        # The other partition goes on, and is never quiet for so long.
        for n in (10, 20, 30, 40):
            await asyncio.to_thread(kafka.produce, topic, numbers(n))
            await asyncio.sleep(0.1)
        await sunk.until(3)
        await handle.stop()
        return [row["n"] for row in sunk.rows]

    assert asyncio.run(run())[:3] == [2, 1, 1]


def test_lag_and_offset_are_told_for_each_partition(kafka):
    topic = kafka.topic(2)
    kafka.produce(topic, [*numbers(*range(5)), *numbers(7, partition=1)], transaction="commit")

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, topic, sunk).start(mode="streaming")
        await sunk.until(6)
        metrics = handle.registry.operator("read-1", 0)
        told = {
            (metric.name, metric.labels["split"]): metric.value
            for metric in metrics
            if "split" in metric.labels
        }
        await handle.stop()
        return told

    told = asyncio.run(run())
    # Behind the last record there is the marker of the transaction.
    assert told["streamflow_kafka_offset", f"{topic}-0"] == 6
    assert told["streamflow_kafka_offset", f"{topic}-1"] == 2
    assert told["streamflow_kafka_lag_records", f"{topic}-0"] == 0


@pytest.mark.parametrize("client", ["aiokafka", "confluent"])
def test_a_topic_of_a_pattern_that_is_deleted_ends_and_the_others_are_read_on(
    kafka, client, tmp_path, caplog
):
    stays, goes = kafka.topic(), kafka.topic()
    kafka.produce(stays, numbers(1))
    kafka.produce(goes, numbers(2))

    async def run():
        sunk = Sunk()
        pattern = re.compile(f"{stays}|{goes}")
        job = copying(kafka, pattern, sunk, discover_every="200ms", client=client)
        handle = await job.start(mode="streaming", checkpoint_dir=str(tmp_path), checkpoint_interval="200ms")
        await sunk.until(2)
        await asyncio.to_thread(kafka.delete, goes)
        for _ in range(900):
            if "partition was deleted" in caplog.text:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("nobody has noticed that the topic is gone")
        kafka.produce(stays, numbers(3))
        await sunk.until(3)
        kafka.topic(name=goes)
        kafka.produce(goes, numbers(4))
        seen = await sunk.until(4)
        result = await handle.stop()
        return seen, result.restarts

    assert asyncio.run(run()) == ([1, 2, 3, 4], 0)


def test_a_named_topic_that_is_deleted_ends_the_job_once_and_says_what_would_go_on(kafka, tmp_path):
    stays, goes = kafka.topic(), kafka.topic()
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path), "checkpoint_interval": "200ms"}
    kafka.produce(stays, numbers(1))
    kafka.produce(goes, numbers(2))

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, [stays, goes], sunk).start(**settings)
        await sunk.until(2)
        await asyncio.to_thread(kafka.delete, goes)
        with pytest.raises(SourceError, match=f'{goes}.* has no partition 0 any more.*deleted="end" reads'):
            await handle.wait()
        # With the topic taken from the list it goes on at once.
        handle = await copying(kafka, [stays], sunk).start(**settings)
        kafka.produce(stays, numbers(3))
        seen = await sunk.until(3)
        await handle.stop()
        return seen

    assert asyncio.run(run()) == [1, 2, 3]


def test_a_changed_list_of_topics_is_what_a_job_goes_on_with(kafka, tmp_path):
    first, removed, added = kafka.topic(), kafka.topic(), kafka.topic(2)
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path)}
    for number, topic in enumerate([first, removed, added]):
        kafka.produce(topic, numbers(number))

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, [first, removed], sunk).start(**settings)
        await sunk.until(2)
        await handle.stop()
        kafka.produce(removed, numbers(10))
        kafka.produce(first, numbers(11))
        # At once, and not when the next look for partitions is due.
        handle = await copying(kafka, [first, added], sunk, discover_every="10m").start(**settings)
        await sunk.until(4)
        await handle.stop()
        handle = await copying(kafka, [first, f"{first}x"], sunk).start(**settings)
        with pytest.raises(SourceError, match=f"there is no topic '{first}x'"):
            await handle.wait()
        return sunk.numbers

    assert asyncio.run(run()) == [0, 1, 2, 11]


def test_a_changed_pattern_is_what_a_job_goes_on_with(kafka, tmp_path):
    name = kafka.name()
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path), "restart": "none"}
    for number, topic in enumerate(["removed", "stays", "added"]):
        kafka.produce(kafka.topic(name=f"{name}-{topic}"), numbers(number))

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, re.compile(f"{name}-(removed|stays)"), sunk).start(**settings)
        await sunk.until(2)
        await handle.stop()
        kafka.produce(f"{name}-removed", numbers(10))
        kafka.produce(f"{name}-stays", numbers(11))
        handle = await copying(kafka, re.compile(f"{name}-(stays|added)"), sunk).start(**settings)
        await sunk.until(4)
        await handle.stop()
        handle = await copying(kafka, re.compile(f"{name}-removed"), sunk).start(**settings)
        with pytest.raises(StateError, match=r"and this one reads .*-removed: none of those topics"):
            await handle.wait()
        return sunk.numbers

    assert asyncio.run(run()) == [0, 1, 2, 11]


@pytest.mark.parametrize("client", ["aiokafka", "confluent"])
def test_what_retention_has_deleted_is_left_out_and_counted_where_that_is_asked_for(kafka, client, tmp_path):
    topic = kafka.topic()
    kafka.produce(topic, numbers(0, 1, 2))
    settings = {"mode": "streaming", "checkpoint_dir": str(tmp_path)}

    async def run():
        sunk = Sunk()
        handle = await copying(kafka, topic, sunk, client=client).start(**settings)
        await sunk.until(3)
        await handle.stop()
        kafka.produce(topic, numbers(3, 4, 5, 6))
        kafka.delete_records(topic, 0, before=5)
        handle = await copying(kafka, topic, sunk, client=client).start(**settings)
        # At once, and not after some restarts.
        with pytest.raises(SourceError, match=r'offset 3 is not in the log.*lost="skip"'):
            await handle.wait()
        assert handle.status().restarts == 0
        handle = await copying(kafka, topic, sunk, client=client, lost="skip").start(**settings)
        seen = await sunk.until(5)
        lost = handle.registry.total("streamflow_kafka_lost_records_total", "read-1")
        await handle.stop()
        return seen, lost

    assert asyncio.run(run()) == ([0, 1, 2, 5, 6], 2)
