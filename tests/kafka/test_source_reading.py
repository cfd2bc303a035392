"""A Kafka source's view of a topic: rows, columns beside them, tombstones, bad records, and the start and end of
reading."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

import streamflow as sf
from streamflow.errors import RecordError, SourceError
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.connectors.kafka.clients.port import TopicPartition
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.operators.connectors.kafka.enumerator import KafkaEnumerator, Reading
from streamflow.operators.connectors.kafka.session import KafkaSession
from streamflow.operators.connectors.kafka.source import KafkaSource
from streamflow.operators.contract.source import Instance, Split
from tests.kafka.source_runs import ReadBack, context, read_split, read_to_end
from tests.kafka.worlds import records

N = {"n": sf.Int64}
NOW = 1_795_255_200_000_000


def numbers(*values, partition=0):
    return [(None, json.dumps({"n": n}), partition, NOW + n * 1_000_000) for n in values]


def source(kafka, topic, **options):
    return KafkaSource(topic, kafka.bootstrap, **{"schema": N, "end": "latest", **options})


def read_numbers(*args, **options):
    return sorted(row["n"] for row in read_to_end(source(*args, **options)).rows)


def test_a_job_reads_all_partitions_with_the_records_timestamps_as_event_time(kafka):
    topic = kafka.topic(3)
    kafka.produce(topic, [(f"k{n}", json.dumps({"n": n}), None, NOW + n * 1_000_000) for n in range(100)])
    job = sf.Job("counts")
    rows = job.read(source(kafka, topic, include=["key"]), watermark=sf.bounded_disorder("1s"))
    counts = rows.key_by("key").window(sf.tumbling("10s")).aggregate(total=sf.sum("n")).collect()
    job.run(mode="streaming")
    frame = counts.frame()
    assert frame["total"].sum() == sum(range(100))
    assert frame["window_start"].min() == datetime.fromtimestamp(NOW / 1e6, UTC)
    assert set(frame["key"]) == {f"k{n}" for n in range(100)}


def test_every_part_of_a_record_can_be_a_column(kafka):
    topic = kafka.topic()
    headers = [("a", b"1"), ("a", None)]
    kafka.produce(topic, [("k", '{"n": 1}', 0, NOW, headers), (None, '{"n": 2}', 0, NOW + 1_000)])
    include = {"key": "id", "headers": "h", "topic": "t", "partition": "p", "offset": "o", "timestamp": "at"}
    read = read_to_end(source(kafka, topic, include=include))
    at = datetime.fromtimestamp(NOW / 1e6, UTC)
    h = [{"name": "a", "value": b"1"}, {"name": "a", "value": None}]
    assert read.rows == [
        {"n": 1, "id": "k", "h": h, "t": topic, "p": 0, "o": 0, "at": at},
        {"n": 2, "id": None, "h": [], "t": topic, "p": 0, "o": 1, "at": at + timedelta(milliseconds=1)},
    ]
    assert read.times == [NOW, NOW + 1_000]


def test_only_the_columns_that_somebody_reads_are_made(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [("k", '{"n": 1, "s": "x"}')])
    both = source(kafka, topic, schema={**N, "s": sf.String}, include=["key", "offset"])
    assert read_to_end(both, columns=["s", "offset"]).rows == [{"s": "x", "offset": 0}]


def test_python_objects_and_their_parts(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [("k", '[1, "x"]'), ("l", '{"a": null}')])
    assert read_to_end(source(kafka, topic, schema=None)).rows == [[1, "x"], {"a": None}]
    read = read_to_end(source(kafka, topic, schema=None, include=["key", "offset", "topic"]))
    assert read.rows[0] == {"value": [1, "x"], "key": "k", "offset": 0, "topic": topic}


def test_text_and_bytes(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [(None, "größe"), (None, b"plain")])
    assert read_to_end(source(kafka, topic, schema=None, format="text")).rows == [
        {"value": "größe"},
        {"value": "plain"},
    ]
    assert read_to_end(source(kafka, topic, schema=None, format="bytes")).rows[1] == {"value": b"plain"}


def test_tombstones_are_left_out_and_counted_or_kept_in_their_place(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [("a", '{"n": 1}'), ("b", None), ("c", '{"n": 3}')])
    read = read_to_end(source(kafka, topic))
    assert [row["n"] for row in read.rows] == [1, 3]
    assert read.metrics.value_of("streamflow_kafka_tombstones_total") == 1
    kept = read_to_end(source(kafka, topic, tombstones="keep", include=["key"]))
    assert kept.rows == [{"n": 1, "key": "a"}, {"n": None, "key": "b"}, {"n": 3, "key": "c"}]
    objects = read_to_end(source(kafka, topic, tombstones="keep", schema=None))
    assert objects.rows == [{"n": 1}, None, {"n": 3}]


def test_bad_records_have_their_place_and_their_bytes(kafka):
    topic = kafka.topic()
    kafka.produce(
        topic, [("a", '{"n": 1}'), ("b", "{oops", 0, NOW, [("h", b"x")]), ("c", None), ("d", '{"n": 4}')]
    )
    read = read_to_end(source(kafka, topic))
    assert [row["n"] for row in read.rows] == [1, 4]
    [bad] = read.bad
    assert str(bad).startswith(f"split {topic}-0, offset 1: the value is not valid JSON")
    raw = bad.raw
    assert raw is not None
    assert (raw.topic, raw.partition, raw.offset, raw.timestamp) == (topic, 0, 1, NOW)
    assert (raw.key, raw.value, list(raw.headers)) == (b"b", b"{oops", [("h", b"x")])
    with pytest.raises(RecordError, match="offset 1"):
        read_to_end(source(kafka, topic), on_error="fail")


def test_values_that_are_too_long_and_keys_that_are_no_text_are_bad_records(kafka):
    topic = kafka.topic()
    kafka.produce(
        topic, [(b"\xff", '{"n": 1}'), ("ö", '{"n": 2}'), ("k", json.dumps({"n": 3, "s": "x" * 100}))]
    )
    read = read_to_end(source(kafka, topic, include=["key"], max_record_bytes=64))
    assert read.rows == [{"n": 2, "key": "ö"}]
    assert [bad.message for bad in read.bad] == [
        "the key is not valid UTF-8",
        "the value takes 117 bytes, more than max_record_bytes=64",
    ]
    as_bytes = read_to_end(source(kafka, topic, include=["key"], key_format="bytes"))
    assert [row["key"] for row in as_bytes.rows] == [b"\xff", "ö".encode(), b"k"]


def test_a_job_that_dead_letters_goes_on(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [(None, '{"n": 1}'), (None, "poison"), (None, '{"n": 3}')])
    job = sf.Job("letters")
    letters = Collected()
    rows = job.read(source(kafka, topic)).on_error(CollectSink(letters))
    good = rows.collect()
    job.run()
    assert good.frame()["n"].to_list() == [1, 3]
    assert letters.frame().select("split", "offset").row(0) == (f"{topic}-0", "offset 1")


def test_where_it_starts(kafka):
    topic = kafka.topic(2)
    kafka.produce(topic, [*numbers(*range(10)), *numbers(*range(100, 110), partition=1)])

    def at(start):
        return read_numbers(kafka, topic, start=start)

    assert len(at("earliest")) == 20
    assert at("latest") == []
    assert at({f"{topic}-0": 8}) == [8, 9, *range(100, 110)]
    # The first record at or after the time, which lies between two milliseconds.
    assert at(datetime.fromtimestamp(NOW / 1e6 + 7.9999, UTC)) == [8, 9, *range(100, 110)]
    assert at("2030-01-01") == []
    with pytest.raises(SourceError, match=f"start= names {topic}-7, which is not read"):
        at({f"{topic}-7": 8})


def test_where_it_ends(kafka):
    topic = kafka.topic(2)
    kafka.produce(topic, [*numbers(*range(10)), *numbers(*range(100, 110), partition=1)])
    assert read_numbers(kafka, topic, end={f"{topic}-0": 3, f"{topic}-1": 0}) == [0, 1, 2]
    assert read_numbers(kafka, topic, end=datetime.fromtimestamp(NOW / 1e6 + 3, UTC)) == [0, 1, 2]
    assert read_numbers(kafka, topic, end={f"{topic}-1": 0}, start={f"{topic}-0": 9}) == [9]


def test_only_committed_records_are_read_up_to_an_end_that_no_record_has(kafka):
    topic = kafka.topic()
    kafka.produce(topic, numbers(1, 2), transaction="commit")
    kafka.produce(topic, numbers(3, 4), transaction="abort")
    kafka.produce(topic, numbers(5))
    kafka.produce(topic, numbers(6), transaction="abort")
    read = read_to_end(source(kafka, topic, include=["offset"]))
    assert [(row["n"], row["offset"]) for row in read.rows] == [(1, 0), (2, 1), (5, 6)]
    # Offsets 7 and 8 are an aborted record and its marker.
    assert read.positions[f"{topic}-0"] == {"offset": 9}


def test_what_is_being_committed_while_it_looks_is_read(kafka, monkeypatch):
    """Brokers confirm a commit before the records can be seen, so that ends may be short when they are asked for."""
    topic, client = kafka.topic(4), Cluster(kafka.bootstrap).client()
    reading = Reading((topic,), "earliest", "latest", None, None)

    async def ends():
        ctx = context()
        session = KafkaSession(client, "test", ctx)
        asked = asyncio.Event()
        async with session.metadata() as about:
            offsets = about.offsets

        async def told(partitions, at, **options):
            found = await offsets(partitions, at, **options)
            if at == "latest":
                asked.set()
            return found

        monkeypatch.setattr(about, "offsets", told)
        out = client.writer(
            client_id="test", transactional_id=kafka.name(), transaction_timeout=10_000_000, compression=None
        )
        await out.start()
        await out.begin()
        for number in range(4):
            await out.write(records(TopicPartition(topic, number), b"1", b"2"))
        await out.flush()
        looking = asyncio.create_task(KafkaEnumerator(reading, session, ctx).discover())
        async with asyncio.timeout(20):
            await asked.wait()
            await out.commit()
            await out.close()
            return [split.payload["end"] for split in (await looking).splits]

    assert asyncio.run(ends()) == [3] * 4  # two records and a marker


def test_a_topic_of_nothing_but_aborted_records_has_an_end(kafka):
    topic = kafka.topic()
    kafka.produce(topic, numbers(1, 2), transaction="abort")
    assert read_numbers(kafka, topic) == []
    assert read_numbers(kafka, kafka.topic(2)) == []


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_reading_on_from_any_position(kafka, compression):
    """Batches are sent whole, also where a position lies in the middle of one."""
    topic = kafka.topic(compression_type={"none": "uncompressed"}.get(compression, compression))
    kafka.produce(topic, numbers(*range(50)))

    async def run():
        reading = source(kafka, topic, end={f"{topic}-0": 48})
        ctx = context(batch_rows=7)
        [split] = (await reading.enumerator(ctx).discover()).splits
        for offset in (0, 1, 25, 47, 48):
            read = ReadBack()
            await read_split(reading, split, {"offset": offset}, ctx, read)
            assert [row["n"] for row in read.rows] == list(range(offset, 48)), offset
            assert offset == 48 or read.positions[split.id] == {"offset": 48}

    asyncio.run(run())


def test_batches_are_no_larger_than_asked_for(kafka):
    topic = kafka.topic()
    kafka.produce(topic, numbers(*range(1000)))

    async def run():
        reading, ctx = source(kafka, topic), context(batch_rows=64)
        [split] = (await reading.enumerator(ctx).discover()).splits
        reader = reading.reader(split, None, ctx)
        sizes = []
        while (fetch := await reader.fetch()) is not None:
            sizes.append(len(fetch.decode().batch))
        await reader.close()
        return sizes

    sizes = asyncio.run(run())
    assert sum(sizes) == 1000
    assert max(sizes) <= 64


def test_a_start_that_the_log_no_longer_has_is_an_error_that_says_what_there_is(kafka):
    topic = kafka.topic()
    kafka.produce(topic, numbers(*range(10)))
    kafka.delete_records(topic, 0, before=6)
    with pytest.raises(
        SourceError, match=r"offset 2 is not in the log any more: it has offsets 6 to 10"
    ) as error:
        read_numbers(kafka, topic, start={f"{topic}-0": 2})
    assert error.value.where.split == f"{topic}-0"
    assert read_numbers(kafka, topic, start="earliest") == [6, 7, 8, 9]
    # What a job finds that is restored after the topic was made again.
    with pytest.raises(SourceError, match="is beyond its end"):
        read_numbers(kafka, topic, start={f"{topic}-0": 11}, end={f"{topic}-0": 20})


@pytest.mark.parametrize("start", ["earliest", "latest", {0: 3}])
def test_an_end_that_the_log_does_not_have_yet_is_not_waited_for(kafka, start):
    topic = kafka.topic()
    kafka.produce(topic, numbers(*range(5)))
    if isinstance(start, dict):
        start = {f"{topic}-{partition}": at for partition, at in start.items()}
    with pytest.raises(
        SourceError, match=r"end at offset 6, which is beyond its end: the log ends at offset 5"
    ):
        read_numbers(kafka, topic, start=start, end={f"{topic}-0": 6})
    assert read_numbers(kafka, topic, end={f"{topic}-0": 5}) == [0, 1, 2, 3, 4]


def test_a_topic_that_is_not_there(kafka):
    topic = kafka.topic()
    with pytest.raises(SourceError, match="there is no topic 'no-such-topic'"):
        read_numbers(kafka, "no-such-topic")
    with pytest.raises(SourceError) as error:
        read_numbers(kafka, topic[:-1])
    assert f"did you mean {topic!r}" in str(error.value)


def test_patterns_match_whole_names(kafka):
    first, second = kafka.topic(), kafka.topic()
    kafka.produce(first, numbers(1))
    kafka.produce(second, numbers(2))
    assert read_numbers(kafka, re.compile(f"{first}|{second[:-1]}")) == [1]
    assert read_numbers(kafka, [first, second]) == [1, 2]
    assert read_numbers(kafka, re.compile("nothing-like-that")) == []


def test_copies_of_a_program_share_the_partitions(kafka):
    topics = [kafka.topic(5), kafka.topic(2)]
    for number, topic in enumerate(topics):
        count = 5 if number == 0 else 2
        kafka.produce(topic, [each for n in range(count) for each in numbers(10 * number + n, partition=n)])

    def part(index):
        return [row["n"] for row in read_to_end(source(kafka, topics), instance=Instance(index, 3)).rows]

    parts = [part(index) for index in range(3)]
    assert sorted(n for each in parts for n in each) == [0, 1, 2, 3, 4, 10, 11]
    assert all(parts)


def test_a_split_says_what_it_is(kafka):
    topic = kafka.topic()
    kafka.produce(topic, numbers(1, 2))
    [split] = asyncio.run(_discover(source(kafka, topic)))
    id = split.payload["topic_id"]
    payload = {"topic": topic, "partition": 0, "start": 0, "end": 2, "topic_id": id}
    assert split == Split(f"{topic}-0", payload)
    [unbounded] = asyncio.run(_discover(source(kafka, topic, end=None, start="latest")))
    assert unbounded.payload["start"] == 2
    assert unbounded.payload["topic_id"] == id
    [another] = asyncio.run(_discover(source(kafka, made_of(kafka, 1))))
    assert another.payload["topic_id"] not in ("", id)
    assert unbounded.unbounded


def made_of(kafka, value):
    """Another topic, with one record."""
    topic = kafka.topic()
    kafka.produce(topic, numbers(value))
    return topic


async def _discover(reading):
    ctx = context()
    enumerator = reading.enumerator(ctx)
    discovery = await enumerator.discover()
    await reading.reader(discovery.splits[0], None, ctx).close()
    session = ctx.shared["kafka"]
    assert isinstance(session, KafkaSession)
    await session.close_metadata()
    return discovery.splits
