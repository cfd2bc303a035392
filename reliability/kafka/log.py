"""The topics as somebody else sees them: filled and read with librdkafka, which the job under fire does not use."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from reliability.kafka.flow import OUTPUTS, PARTITIONS, Site

PLACE: dict[str, Any] = {"partition": pl.Int64, "offset": pl.Int64}
PATIENCE_SECONDS = 30.0


def make_topics(bootstrap: str, topics: Mapping[str, int]) -> None:
    """Topics with so many partitions each."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(name, count, 1) for name, count in topics.items()])
    for future in made.values():
        future.result(PATIENCE_SECONDS)


def produce(
    bootstrap: str,
    topic: str,
    values: Sequence[bytes],
    keys: Sequence[str | bytes],
    partitions: Sequence[int],
) -> None:
    """Appends records, in each partition in the order given; returns when all are acknowledged."""
    refused: list[KafkaError] = []

    def told(error: KafkaError | None, _: Any) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 500_000,
            "on_delivery": told,
        }
    )
    for value, key, partition in zip(values, keys, partitions, strict=True):
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(PATIENCE_SECONDS) or refused:
        raise RuntimeError(f"the input could not be written: {refused[:1]}")


def write_input(site: Site, frame: pl.DataFrame) -> None:
    """The input topic with the events, a key always in the same partition, and the topics for the output."""
    make_topics(
        site.bootstrap,
        {site.source: PARTITIONS} | {site.target(output): PARTITIONS for output in OUTPUTS},
    )
    values = frame.write_ndjson().encode().splitlines()
    partitions = frame["key"].str.strip_prefix("key-").cast(pl.Int64) % PARTITIONS
    produce(site.bootstrap, site.source, values, frame["key"].to_list(), partitions.to_list())


def read_committed(bootstrap: str, topic: str) -> tuple[list[Any], pl.DataFrame]:
    """The records of a topic for a read_committed consumer from beginning to end, and the place of each.

    The end is the last stable offset: what stands behind a transaction that is still open is not seen.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "judge",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
            "check.crcs": True,
        }
    )
    try:
        partitions = sorted(consumer.list_topics(topic, PATIENCE_SECONDS).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        reading, found, places, last = set(partitions), [], [], time.monotonic()
        while reading:
            # Waits so long even where there are some, unless there are so many.
            messages = consumer.consume(10_000, 0.05)
            if messages:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE_SECONDS:
                raise RuntimeError(f"{topic}: nothing was answered for {PATIENCE_SECONDS:g} s")
            for message in messages:
                error = message.error()
                if error is None:
                    found.append(message)
                    places.append((message.partition(), message.offset()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    reading.discard(message.partition())
                elif not error.retriable():
                    raise RuntimeError(f"{topic}: {error}")
    finally:
        consumer.close()
    return found, pl.DataFrame(places, schema=PLACE, orient="row")


def read_output(site: Site, output: str) -> pl.DataFrame:
    """The rows of an output topic with `partition` and `offset`."""
    found, places = read_committed(site.bootstrap, site.target(output))
    columns = OUTPUTS[output]
    if not found:
        return pl.DataFrame(schema=PLACE | columns)
    rows = pl.read_ndjson(b"\n".join(message.value() for message in found), schema=columns)
    return places.hstack(rows)
