"""The judge of all other tests here: what it writes it reads, what was aborted it does not show."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tests.kafka.topics import Record, Topics


def test_what_is_written_is_read(kafka: Topics) -> None:
    topic = kafka.topic(2)
    kafka.produce(
        topic,
        [
            ("a", b"1", 1, 1_700_000_000_123_000, [("why", b"so"), ("not", None)]),
            (None, None, 0),
            ("b", "ü", 1),
        ],
    )
    first, second, third = kafka.read(topic)
    assert first[:5] == (0, 0, None, None, [])
    assert second == Record(1, 0, b"a", b"1", [("why", b"so"), ("not", None)], 1_700_000_000_123_000)
    assert third[:4] == (1, 1, b"b", "ü".encode())
    assert kafka.read(topic, 3) == [first, second, third]


def test_a_topic_keeps_records_however_old_they_are(kafka: Topics) -> None:
    """Brokers delete what is older than a week when they next look, which is in the middle of some test."""
    about = AdminClient({"bootstrap.servers": kafka.bootstrap})
    topic = ConfigResource(ResourceType.TOPIC, kafka.topic())
    assert about.describe_configs([topic])[topic].result(30)["retention.ms"].value == "-1"


def test_what_is_aborted_is_not_shown(kafka: Topics) -> None:
    topic = kafka.topic()
    kafka.produce(topic, [(None, "no")], transaction="abort")
    kafka.produce(topic, [(None, "yes")], transaction="commit")
    assert [(record.offset, record.value) for record in kafka.read(topic)] == [(2, b"yes")]
    assert [record.value for record in kafka.read(topic, committed=False)] == [b"no", b"yes"]


def test_an_empty_topic_is_empty(kafka: Topics) -> None:
    assert kafka.read(kafka.topic(3)) == []


def test_records_that_do_not_come_are_missed(kafka: Topics) -> None:
    with pytest.raises(AssertionError, match="0 records within"):
        kafka.read(kafka.topic(), 1, seconds=0.2)
