"""Records that a producer can write to a real broker: a job that skips survives all of them, and an error names the
place."""

import json
import time

import cramjam
import pytest
from aiokafka.errors import KafkaError

import streamflow as sf
from streamflow.errors import RecordError, SourceError
from tests.every_pair import every_pair
from tests.kafka.batch_format import Written, checksummed, encode, encode_record
from tests.kafka.raw_batches import send

NOW = int(time.time() * 1000)
N = {"n": sf.Int64}
CLIENTS = ["aiokafka", "confluent"]


def number(n, **parts):
    return Written(value=json.dumps({"n": n}).encode(), **{"timestamp": NOW, **parts})


def read(kafka, topic, client, *, skip=True, event_time=None, **options):
    """(rows, how many were bad)."""
    job = sf.Job("bad")
    source = sf.KafkaSource(topic, kafka.bootstrap, schema=N, end="latest", client=client, **options)
    rows = job.read(source, event_time=event_time)
    kept = (rows.on_error("skip") if skip else rows).collect()
    result = job.run(mode="streaming")
    return kept.rows(), result.errors


def unlimited(kafka):
    return kafka.topic(message_timestamp_before_max_ms=2**63 - 1, message_timestamp_after_max_ms=2**63 - 1)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "stamp",
    [1_795_255_200_000_000_000, 2**63 - 1, -1, 253_402_300_800_000],
    ids=["nanoseconds", "largest", "none", "year 10000"],
)
def test_a_timestamp_that_is_no_event_time_is_one_bad_record(kafka, client, stamp):
    topic = unlimited(kafka)
    send(kafka, topic, encode([number(1)]), encode([number(2, timestamp=stamp)]), encode([number(3)]))
    assert read(kafka, topic, client) == ([{"n": 1}, {"n": 3}], 1)
    with pytest.raises(RecordError, match=f"split {topic}-0, offset 1: the record"):
        read(kafka, topic, client, skip=False)
    # Nobody wants it: the event time is a column's.
    assert read(kafka, topic, client, event_time=sf.epoch("n", unit="s")) == (
        [{"n": 1}, {"n": 2}, {"n": 3}],
        0,
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_times_before_1970_are_times(kafka, client):
    topic = unlimited(kafka)
    send(
        kafka,
        topic,
        encode([number(1, timestamp=-2), number(2, timestamp=-86_400_000), number(3, timestamp=0)]),
    )
    job = sf.Job("old")
    rows = job.read(
        sf.KafkaSource(topic, kafka.bootstrap, schema=N, end="latest", include=["timestamp"], client=client)
    ).collect()
    job.run()
    assert [row["timestamp"].timestamp() for row in rows.rows()] == [-0.002, -86_400, 0]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_header_whose_name_is_no_text_matters_to_those_who_want_headers(kafka, client):
    topic = kafka.topic()
    bad = number(2, headers=[(b"a", b"1"), (b"\xff\xfe", b"2")])
    send(kafka, topic, encode([number(1, headers=[(b"a", None)]), bad, number(3)], codec="gzip"))
    assert read(kafka, topic, client) == ([{"n": 1}, {"n": 2}, {"n": 3}], 0)
    rows, errors = read(kafka, topic, client, include=["headers"])
    assert ([row["n"] for row in rows], errors) == ([1, 3], 1)
    assert rows[0]["headers"] == [{"name": "a", "value": None}]
    with pytest.raises(
        RecordError, match=f"split {topic}-0, offset 1: the name of a header is not valid UTF-8"
    ):
        read(kafka, topic, client, include=["headers"], skip=False)


def test_bad_headers_go_to_a_dead_letter_topic(kafka, tmp_path):
    topic, dead = unlimited(kafka), kafka.topic()
    headers = [(b"\xff", b"2")]
    send(
        kafka,
        topic,
        encode([number(1, headers=headers), number(2), number(3, timestamp=2**63 - 1, headers=headers)]),
    )
    job = sf.Job(f"dead-{topic}")
    source = sf.KafkaSource(topic, kafka.bootstrap, schema=N, end="latest", include=["headers"])
    rows = job.read(source).on_error(sf.KafkaSink(dead, kafka.bootstrap)).collect()
    result = job.run(checkpoint_dir=tmp_path)
    assert ([row["n"] for row in rows.rows()], result.errors) == ([2], 2)
    letters = kafka.read(dead)
    assert [letter.value for letter in letters] == [b'{"n": 1}', b'{"n": 3}']
    assert dict(letters[1].headers)["streamflow.origin.timestamp"] == str(2**63 - 1).encode()


def bomb(megabytes):
    """A record of zeros in a few kilobytes of zstd."""
    record = encode_record(Written(value=b"0" * (megabytes << 20), timestamp=NOW), NOW, 0, 0)
    plain = encode([b""], codec="zstd")
    head = bytearray(plain[:61])
    head[27:43] = NOW.to_bytes(8) * 2
    return checksummed(bytes(head) + bytes(cramjam.zstd.compress(record)))


def test_a_batch_that_unpacks_to_far_more_than_it_may_is_a_bad_record(kafka):
    topic = kafka.topic()
    content = bomb(100)
    assert len(content) < 20_000
    send(kafka, topic, encode([number(1)]), content, encode([number(3)]))
    assert read(kafka, topic, "aiokafka") == ([{"n": 1}, {"n": 3}], 1)
    with pytest.raises(RecordError, match=f"split {topic}-0, offset 1: .*max_batch_bytes"):
        read(kafka, topic, "aiokafka", skip=False)
    # librdkafka would ask for it again and again.
    with pytest.raises(
        SourceError, match=f"split {topic}-0, offset 1: a batch of records cannot be unpacked"
    ):
        read(kafka, topic, "confluent")


def test_a_compacted_topic_of_a_transactional_producer_is_read_on(kafka):
    """The cleaner leaves batches without records: of what was compacted away, and of markers that end nothing more."""
    topic = kafka.topic(
        cleanup_policy="compact",
        segment_ms=500,
        delete_retention_ms=0,
        min_cleanable_dirty_ratio=0.001,
        max_compaction_lag_ms=1000,
    )
    for n in range(30):
        outcome = "abort" if n % 7 == 3 else "commit"
        kafka.produce(topic, [("k", json.dumps({"n": n}))], transaction=outcome)
        if n % 5 == 4:
            time.sleep(0.6)
    wait_for_cleaner(kafka, topic)
    for client in CLIENTS:
        rows, errors = read(kafka, topic, client)
        assert errors == 0
        assert rows.count({"n": 29}) == 1
        assert len(rows) < 10


def wait_for_cleaner(kafka, topic):
    """Until batches have no records any more."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if len(kafka.read(topic)) < 6:
            return
        kafka.produce(topic, [("other", '{"n": -1}')], transaction="commit")
        time.sleep(1)
    pytest.fail("the cleaner did not come")


@every_pair(
    numbers=[(0, 2, 1), (0, 0, 2), (0, 7, 2)], attributes=[0, 0x80], codec=["gzip", "snappy", "lz4", "zstd"]
)
def test_a_broker_refuses_a_compressed_batch_that_is_not_in_order(kafka, codec, attributes, numbers):
    """A rule of brokers that `BatchHeader.numbered` relies on."""
    topic = kafka.topic()
    records = [
        encode_record(number(place, offset=offset), NOW, 0, place, attributes)
        for place, offset in enumerate(numbers)
    ]
    with pytest.raises(KafkaError):
        send(kafka, topic, encode([number(0), *records[1:]], codec=codec))
    send(kafka, topic, encode([number(1), number(2), number(3)], codec=codec))
    assert read(kafka, topic, "aiokafka") == ([{"n": 1}, {"n": 2}, {"n": 3}], 0)
