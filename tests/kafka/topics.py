"""Topics for tests, and what is in them as others see it: librdkafka's own client, reading committed records only."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Self, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

__all__ = ["Record", "Topics"]

_SETTLING = 2.0
"""Seconds for which a transaction that is open may be one that is just ending."""

_PATIENCE = 90.0
"""Seconds that a program on a busy machine may take: only what fails takes as long."""

_KEPT = {"retention.ms": "-1"}
"""Tests write records of any time: by default a broker deletes, when it next looks, records older than a week."""


class Record(NamedTuple):
    """As read. `timestamp` is microseconds since 1970."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int


class Topics:
    """A broker at `bootstrap`; `close` deletes the topics that were made here."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._settings = {
            "bootstrap.servers": bootstrap,
            "log_level": 2,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        self._admin = AdminClient(self._settings)
        self._made: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._made:
            for deleted in self._admin.delete_topics(self._made).values():
                deleted.exception()  # the broker may be gone, with all its topics

    @staticmethod
    def name() -> str:
        """One that no topic has."""
        return f"test-{uuid.uuid4().hex[:12]}"

    def topic(self, partitions: int = 1, *, name: str | None = None, **config: Any) -> str:
        """Make a topic, of a random name unless given, which keeps its records however old they are; `config` with
        underscores for the dots, like `max_message_bytes=1000`."""
        topic = name or self.name()
        settings = _KEPT | {name.replace("_", "."): str(value) for name, value in config.items()}
        made = self._admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])
        made[topic].result(30)
        self._made.append(topic)
        self._wait_for(topic, partitions)
        return topic

    def _wait_for(self, topic: str, partitions: int) -> None:
        while len(self._admin.list_topics(topic, timeout=10).topics[topic].partitions) < partitions:
            time.sleep(0.01)

    def wait_for(self, topic: str, *, seconds: float = _PATIENCE) -> None:
        """Until somebody else has made the topic, which is deleted at the end with those made here."""
        self._made.append(topic)
        until = time.monotonic() + seconds
        while topic not in self._admin.list_topics(timeout=10).topics:
            assert time.monotonic() < until, f"nobody made {topic}"
            time.sleep(0.05)

    def produce(
        self,
        topic: str,
        records: Iterable[Sequence[Any]],
        *,
        transaction: Literal["commit", "abort"] | None = None,
    ) -> None:
        """Write `(key, value[, partition[, timestamp[, headers]]])`; None where the default will do. Texts become
        UTF-8, timestamps are microseconds. With `transaction` in one, which is then committed or aborted."""
        settings = {
            **self._settings,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
        if transaction is not None:
            settings["transactional.id"] = uuid.uuid4().hex
        producer = Producer(settings)
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        if transaction is not None:
            producer.init_transactions(30)
            producer.begin_transaction()
        for record in records:
            key, value, partition, timestamp, headers = (*record, None, None, None)[:5]
            arguments: dict[str, Any] = {"key": key, "value": value, "headers": headers}
            if partition is not None:
                arguments["partition"] = partition
            if timestamp is not None:
                arguments["timestamp"] = timestamp // 1000
            while True:
                try:
                    producer.produce(topic, **arguments, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0, "not everything was delivered within 30 s"
        assert not failed, failed[0].str()
        if transaction == "commit":
            producer.commit_transaction(30)
        elif transaction == "abort":
            producer.abort_transaction(30)

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it is gone."""
        # A name that is there twice crashes librdkafka when all are deleted.
        self._made.remove(topic)
        self._admin.delete_topics([topic])[topic].result(30)
        while topic in self._admin.list_topics(timeout=10).topics:
            time.sleep(0.01)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        [grown] = self._admin.create_partitions([NewPartitions(topic, partitions)]).values()
        grown.result(30)
        self._wait_for(topic, partitions)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The offsets that a consumer group has committed, by partition."""
        consumer = Consumer({**self._settings, "group.id": group})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            found = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=10)
            return {each.partition: each.offset for each in found if each.offset >= 0}
        finally:
            consumer.close()

    def delete_records(self, topic: str, partition: int, *, before: int) -> None:
        """Have the log begin at an offset, as retention would."""
        [deleted] = self._admin.delete_records([TopicPartition(topic, partition, before)]).values()
        deleted.result(30)

    def read(
        self,
        topic: str,
        count: int | None = None,
        *,
        committed: bool = True,
        seconds: float = _PATIENCE,
    ) -> list[Record]:
        """The topic's records, by partition and offset. Without `count`: to the end as it is now; a broker confirms
        the end of a transaction before it is in the log, so that those which are open get a moment. With it: until
        there are so many, waiting for them; AssertionError after `seconds`."""
        consumer = Consumer(
            {
                **self._settings,
                "group.id": uuid.uuid4().hex,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "fetch.queue.backoff.ms": 5,
            }
        )
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
            found: list[Record] = []
            ended: dict[int, int] = {}

            def at_end() -> bool:
                nonlocal settled
                if len(ended) < len(partitions):
                    return False
                settled = settled or time.monotonic() + _SETTLING
                if time.monotonic() > settled:
                    return True
                places = [TopicPartition(topic, number) for number in partitions]
                ends = [consumer.get_watermark_offsets(place, cached=True)[1] for place in places]
                return all(ended[number] >= end for number, end in zip(partitions, ends, strict=True))

            until, settled = time.monotonic() + seconds, 0.0
            while len(found) < count if count is not None else not at_end():
                for message in consumer.consume(10_000, timeout=0.05):
                    error = message.error()
                    if error is None:
                        found.append(_record(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        ended[cast("int", message.partition())] = cast("int", message.offset())
                    else:
                        raise AssertionError(error.str())
                assert time.monotonic() < until, (
                    f"{topic}: {len(found)} records within {seconds} s, not {count}"
                )
            return sorted(found)
        finally:
            consumer.close()


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    _, milliseconds = message.timestamp()
    headers = list(message.headers() or [])
    return Record(partition, offset, message.key(), message.value(), headers, milliseconds * 1000)
