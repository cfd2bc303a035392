import re
from datetime import UTC, date, datetime

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import Schema
from streamflow.errors import ConfigError, JobDefinitionError
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.reading_range import checked_end, checked_start
from streamflow.operators.connectors.kafka.source import KafkaSource

N = {"n": sf.Int64}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"topics": []}, "got no topic"),
        ({"topics": 5}, "5 is no name for a topic"),
        ({"topics": b"flights"}, "b'flights' is no name for a topic"),
        ({"topics": "a b"}, "'a b' is no name for a topic"),
        ({"topics": [7]}, "7 is no name"),
        ({"format": "jsn"}, "no Kafka format 'jsn'"),
        ({"tombstones": "drop"}, "tombstones is 'drop'"),
        ({"key_format": "json"}, "key_format is 'json'"),
        ({"include": ["keys"]}, "did you mean 'key'"),
        ({"include": {"key": "n"}}, "appends the column 'n', which the schema has"),
        ({"include": {"key": "a", "topic": "a"}}, "the column 'a' twice"),
        ({"include": {"key": "value"}, "schema": None}, "calls a part 'value'"),
        ({"start": "committed"}, "needs a group"),
        ({"start": "erliest"}, "start='erliest' is no place in a topic"),
        ({"start": date(2026, 1, 1)}, "a date without a time"),
        ({"end": "earliest"}, "end='earliest' is no place"),
        ({"start": {"flights": 3}}, "names 'flights', which is no partition"),
        ({"start": {"flights-0": -1}}, "offset -1"),
        ({"bootstrap_servers": "nowhere"}, "'nowhere' is not the address"),
        ({"discover_every": "0s"}, "discover_every"),
        ({"topics": re.compile(b"f.*")}, "is no name for a topic"),
        ({"topics": {"flights": 3}}, "is no name for a topic"),
        ({"format": ["json"]}, "no Kafka format ['json']"),
        ({"end": pl.col("n")}, "is no place in a topic"),
        ({"lost": ["skip"]}, "lost is ['skip']"),
        ({"include": 5}, "include is 5"),
        ({"include": [5]}, "include is [5]"),
        ({"include": {"key": 5}}, "include is [5]"),
        ({"include": {5: "key"}}, "include is {5: 'key'}"),
        ({"group_id": "a\0b"}, "group_id is"),
        ({"security": "SSL"}, "security is 'SSL'"),
        ({"security": {"protocol": "SSL"}}, "write security=KafkaSecurity("),
        ({"registry": "http://localhost:8081"}, "write registry=SchemaRegistry("),
        ({"client": "kafka-python"}, "no Kafka client 'kafka-python'"),
        ({"client": 5}, "client is 5"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(JobDefinitionError, match=re.escape(said)):
        KafkaSource(**{"topics": "flights", "schema": N, **options})  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("size", ["much", 0, -1, "9" * 400, 1.5, True])
@pytest.mark.parametrize("option", ["max_record_bytes", "max_batch_bytes"])
def test_a_size_that_is_none(option, size):
    with pytest.raises(ConfigError, match=option):
        KafkaSource("flights", schema=N, **{option: size})


def test_places_in_a_topic():
    assert checked_start("latest") == "latest"
    assert checked_start({"a-b-12": 3}) == {TopicPartition("a-b", 12): 3}
    moment = datetime(2026, 11, 21, 10, tzinfo=UTC)
    micros = round(moment.timestamp() * 1e6)
    assert checked_start("2026-11-21T10:00:00") == checked_end("2026-11-21T12:00:00+02:00") == micros
    assert checked_end(moment) == micros
    assert checked_end(None) is None


def test_what_comes_out():
    include = {"key": "id", "headers": "headers", "timestamp": "at"}
    schema = KafkaSource("flights", schema=N, include=include, key_format="bytes").output_type().schema
    assert isinstance(schema, Schema)
    assert dict(schema) == {
        "n": pl.Int64(),
        "id": pl.Binary(),
        "headers": pl.List(pl.Struct({"name": pl.String, "value": pl.Binary})),
        "at": pl.Datetime("us", "UTC"),
    }
    assert KafkaSource("flights", format="text").output_type().schema == {"value": pl.String()}
    assert KafkaSource("flights").output_type().schema is sf.OBJECTS


def test_only_an_end_makes_it_bounded():
    assert not KafkaSource("flights", schema=N).bounded
    assert KafkaSource("flights", schema=N, end="latest").bounded
    assert KafkaSource(re.compile("f.*"), schema=N, end="latest").describe() == "KafkaSource(f.*, bounded)"
