"""The broker of a benchmark, its topics, and the events in them."""

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.program import ProgramError
from benchmarks.workloads.table import PARTITIONS
from deploy.kafka.jars import BrokerError
from deploy.kafka.local_broker import LocalBroker

BATCH_BYTES = 16_384
"""Uncompressed, the Java producer's default."""

# Retention is looked after often enough for a run of minutes; what has been written stays in the page cache.
PROPERTIES = {"log.retention.check.interval.ms": "5000", "log.segment.delete.delay.ms": "1000"}


@contextmanager
def broker() -> Iterator[str]:
    """The address of a broker: `STREAMFLOW_BENCH_KAFKA`, or one that lives as long as this."""
    if given := os.environ.get("STREAMFLOW_BENCH_KAFKA"):
        yield given
        return
    own = LocalBroker(properties=PROPERTIES)
    try:
        own.start()
    except BrokerError as error:
        raise ProgramError(f"no Kafka broker: {error}") from error
    try:
        yield own.bootstrap
    finally:
        own.stop()


def make_topic(bootstrap: str, name: str, config: Mapping[str, str] | None = None) -> str:
    """A new topic of `PARTITIONS` partitions; its name, which begins with `name`."""
    topic = f"bench-{name}-{secrets.token_hex(4)}"
    asyncio.run(_create(bootstrap, topic, dict(config or {})))
    return topic


def fill(bootstrap: str, topic: str, lines: Path) -> None:
    """The lines of a file as records without keys, batch after batch to one partition after the other."""
    asyncio.run(_fill(bootstrap, topic, lines))


async def _create(bootstrap: str, topic: str, config: dict[str, str]) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])
    finally:
        await admin.close()


async def _fill(bootstrap: str, topic: str, lines: Path) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        partition, sent, batch = 0, [], producer.create_batch()
        with lines.open("rb") as events:
            for line in events:
                value = line.rstrip(b"\n")
                if batch.append(key=None, value=value, timestamp=None) is None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    partition, batch = (partition + 1) % PARTITIONS, producer.create_batch()
                    batch.append(key=None, value=value, timestamp=None)
        sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
