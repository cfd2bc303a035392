"""KafkaSink's options: what records are made of, and what is refused when the job is built."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import ConfigError, JobDefinitionError, RecordError, SinkError
from streamflow.operators.connectors.kafka.formats.record_parts import RecordParts
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.connectors.kafka.topic_check import TopicLimits

TIME = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)
FRAME = pl.DataFrame(
    {"k": ["a", None], "n": [1, 2], "raw": [b"\x00", b"\xff"], "at": [TIME, None], "tags": [["x"], []]},
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)
TYPE = StreamType(Schema(FRAME.schema), timed=False)
JSON = ["k", "n", "at", "tags"]
OBJECT_TYPE = StreamType(OBJECTS, timed=False)


def made(**options):
    return KafkaSink("t", **{"value": JSON, **options})._records(TYPE)(FrameBatch(FRAME))


def test_values_are_what_the_format_makes_of_the_chosen_columns():
    assert made(value=["k", "n"]).values == [b'{"k":"a","n":1}', b'{"k":null,"n":2}']
    assert made(value="raw", format="bytes").values == [b"\x00", b"\xff"]


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        (None, [None, None]),
        ("k", [b"a", None]),
        ("n", [b"1", b"2"]),
        ("raw", [b"\x00", b"\xff"]),
        ("at", [b"2013-01-01T05:17:00Z", None]),
        (["k"], [b"a", None]),
        (["k", "n"], [b'{"k":"a","n":1}', b'{"k":null,"n":2}']),
        ("tags", [b'["x"]', b"[]"]),
        (pl.col("n") % 2, [b"1", b"0"]),
        (pl.lit("one"), [b"one", b"one"]),
        (lambda row: row["k"], [b"a", None]),
        (lambda row: row["raw"], [b"\x00", b"\xff"]),
        (lambda row: row["n"], [b"1", b"2"]),
    ],
)
def test_keys(key, keys):
    assert list(made(key=key).keys) == keys


def test_headers_and_timestamps():
    parts = made(headers={"origin": "k", "twice": pl.col("n") * 2}, timestamp="at")
    assert list(parts.headers) == [(("origin", b"a"), ("twice", b"2")), (("origin", None), ("twice", b"4"))]
    assert list(parts.timestamps) == [int(TIME.timestamp() * 1e6), None]


def test_objects():
    batch = RowBatch([{"a": 1}, {"a": 2}])
    parts = KafkaSink("t", key=lambda row: str(row["a"]))._records(OBJECT_TYPE)(batch)
    assert (list(parts.values), list(parts.keys)) == ([b'{"a":1}', b'{"a":2}'], [b"1", b"2"])


@pytest.mark.parametrize("function", [lambda row: row["nope"], lambda row: object(), lambda row: "\ud800"])
def test_a_key_function_that_fails(function):
    with pytest.raises(RecordError, match="function given as key="):
        made(key=function)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "kk"}, "no column 'kk'"),
        ({"key": ["k", "nn"]}, "no column 'nn'"),
        ({"key": pl.col("kk")}, "key cannot be computed"),
        ({"key": pl.col("k", "n")}, "gives 2 columns"),
        ({"key": 7}, "key is 7"),
        ({"value": ["nn"]}, "no column 'nn'"),
        ({"headers": {"h": "kk"}}, "no column 'kk'"),
        ({"timestamp": "n"}, "timestamp has the type"),
        ({"timestamp": 5}, "timestamp is 5"),
        ({"headers": {"h": 5}}, "a header is 5"),
        ({"format": "text"}, "takes one column"),
        ({"format": "arrow"}, "does not write Arrow"),
    ],
)
def test_a_stream_that_does_not_fit(options, says):
    with pytest.raises(JobDefinitionError, match=says):
        KafkaSink("t", **{"value": JSON, **options}).check(TYPE)


def test_columns_of_objects_are_refused():
    with pytest.raises(JobDefinitionError, match="Python objects"):
        KafkaSink("t", key="k").check(OBJECT_TYPE)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "jsonl"}, "no Kafka format"),
        ({"delivery": "at_most_once"}, "delivery is"),
        ({"compression": "lzma"}, "compression is"),
        ({"partitioner": "crc32"}, "partitioner is"),
        ({"transaction_timeout": "10ms"}, "transaction_timeout is"),
        ({"patience": "0s"}, "patience is"),
        ({"outbox_bytes": 10}, "outbox_bytes is"),
        ({"create": {"partition": 3}}, "create has no 'partition'"),
        ({"create": {"partitions": 0}}, "partitions in create is 0"),
        ({"bootstrap_servers": "nowhere"}, "not the address"),
        ({"topic": "a b"}, "no name for a topic"),
        ({"create": 3}, "create is 3"),
        ({"create": {"partitions": "3"}}, "partitions in create is '3'"),
        ({"create": {"config": {"retention.ms": 5}}}, "config in create is"),
        ({"value": [5]}, "value is"),
        ({"headers": ["k"]}, "headers is"),
        ({"security": "SSL"}, "security is 'SSL'"),
        ({"registry": "http://localhost:8081"}, "registry is"),
        ({"client": 5}, "client is 5"),
    ],
)
def test_options_that_make_no_sense(options, says):
    with pytest.raises(JobDefinitionError, match=says):
        KafkaSink(**{"topic": "t", **options})


def test_a_size_that_is_none():
    with pytest.raises(ConfigError):
        KafkaSink("t", outbox_bytes="many")


def test_sinks_on_one_cluster_are_committed_together():
    one, other = KafkaSink("a", "h:1"), KafkaSink("b", " h:1", key="k")
    assert one.committed_with == other.committed_with is not None
    assert KafkaSink("a", "h:2").committed_with != one.committed_with
    assert KafkaSink("a", "h:1", delivery="at_least_once").committed_with is None


def parts(value=b"v", key=b"k", at=None, headers=()):
    return RecordParts([value], [key], [at], [headers])


def test_a_record_that_the_topic_would_not_take():
    limits = TopicLimits("t", 1, 1000)
    limits.check(parts(b"x" * 900), 0)
    with pytest.raises(SinkError, match="row 0 of a batch is a record of 991 bytes") as raised:
        limits.check(parts(b"x" * 990), 0)
    assert raised.value.final, "the record is the same the next time"
    with pytest.raises(SinkError, match="takes 918"):
        limits.check(parts(headers=(("h", b"x" * 990),)), 0)


def test_a_compacted_topic_wants_keys():
    with pytest.raises(SinkError, match="compacted") as raised:
        TopicLimits("t", 1, 1000, keys_needed=True).check(parts(key=None), 0)
    assert raised.value.final, "the record is the same the next time"


def test_a_timestamp_too_far_from_now():
    now, hour = 10**15, timedelta(hours=1) // timedelta(microseconds=1)
    limits = TopicLimits("t", 1, 1000, past=hour, future=hour)
    for at in (None, now - hour, now + hour):
        limits.check(parts(at=at), now)
    for at in (now - hour - 1, now + hour + 1):
        with pytest.raises(SinkError, match="as far from now"):
            limits.check(parts(at=at), now)
