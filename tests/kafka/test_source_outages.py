"""Kafka sources while brokers go away and come back; with a broker of their own."""

import asyncio
import json

import pytest

import streamflow as sf
from deploy.kafka.jars import why_no_java
from deploy.kafka.local_broker import LocalBroker
from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.aiokafka.reader import AiokafkaReader
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.source import KafkaSource
from tests.kafka.topics import Topics

pytestmark = pytest.mark.skipif(why_no_java() is not None, reason=f"no broker can be killed: {why_no_java()}")


@pytest.fixture(scope="module")
def broker():
    with LocalBroker() as broker:
        yield broker


def numbers(*values):
    return [(None, json.dumps({"n": n})) for n in values]


def test_a_job_goes_on_when_its_broker_is_back(broker):
    with Topics(broker.bootstrap) as topics:
        topic = topics.topic(2)
        topics.produce(topic, numbers(*range(100)))

        async def run():
            seen, more = [], asyncio.Event()

            async def store(rows):
                seen.extend(row["n"] for row in rows)
                more.set()

            async def until(count):
                async with asyncio.timeout(40):
                    while len(seen) < count:
                        more.clear()
                        await more.wait()

            job = sf.Job("outage")
            source = KafkaSource(topic, broker.bootstrap, schema={"n": sf.Int64}, discover_every="200ms")
            job.read(source).write(sf.sink(store))
            handle = await job.start(mode="streaming")
            await until(100)
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(1)
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(topics.produce, topic, numbers(*range(100, 200)))
            # Fails where it is not up again 40 s after the broker, long before its patience is over.
            await until(200)
            await handle.stop()
            return sorted(seen), handle.status().restarts

        assert asyncio.run(run()) == (list(range(200)), 0)


def test_a_broker_that_stays_away_is_an_error_when_patience_is_over(broker):
    with Topics(broker.bootstrap) as topics:
        topic = topics.topic()
        topics.produce(topic, numbers(1))

        async def run():
            reader = AiokafkaReader(Cluster(broker.bootstrap), "test", patience=0.5)
            await reader.start()
            partition = TopicPartition(topic, 0)
            await reader.add(partition, 0)
            try:
                async with asyncio.timeout(60):
                    assert len(await reader.fetch(partition, seconds=10, most=None)) == 1
                    await asyncio.to_thread(broker.kill)
                    while True:
                        await reader.fetch(partition, seconds=1, most=None)
            finally:
                await reader.close()
                await asyncio.to_thread(broker.start)

        with pytest.raises(
            SourceError, match=f"split {topic}-0: Kafka at {broker.bootstrap} cannot be reached"
        ):
            asyncio.run(run())


def test_a_topic_that_is_deleted_while_it_is_read(broker, monkeypatch):
    monkeypatch.setattr("streamflow.operators.connectors.kafka.clients.aiokafka.reader._GONE_AFTER", 0.5)
    with Topics(broker.bootstrap) as topics:
        topic = topics.topic()

        async def run():
            reader = AiokafkaReader(Cluster(broker.bootstrap), "test")
            await reader.start()
            partition = TopicPartition(topic, 0)
            await reader.add(partition, 0)
            try:
                assert await reader.fetch(partition, seconds=0.5, most=None) is None
                await asyncio.to_thread(topics.delete, topic)
                async with asyncio.timeout(60):
                    while True:
                        await reader.fetch(partition, seconds=1, most=None)
            finally:
                await reader.close()

        with pytest.raises(SourceError, match=f"topic '{topic}' has no partition 0 any more"):
            asyncio.run(run())
