"""Jobs that write to a real broker: what others read, and what a user is told."""

import asyncio
import json
from datetime import UTC, datetime
from hashlib import sha512

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.frame import FrameBatch
from streamflow.errors import SinkError
from streamflow.operators.connectors.kafka.sink import KafkaSink
from tests.kafka.epochs import Run

N = 3_000


def frame(count=N):
    return pl.DataFrame({"k": [f"k{i % 7}" for i in range(count)], "n": range(count)})


def written(kafka, topic):
    by_key = {}
    for record in kafka.read(topic):
        by_key.setdefault(record.key, []).append(json.loads(record.value)["n"])
    return by_key


EXPECTED = {f"k{i}".encode(): list(range(i, N, 7)) for i in range(7)}


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_every_record_once_in_its_keys_order(kafka, tmp_path, mode, delivery):
    topic = kafka.topic(3)
    job = sf.Job(topic)
    job.read(sf.MemorySource(frame(), batch_rows=100)).write(
        KafkaSink(topic, kafka.bootstrap, key="k", delivery=delivery)
    )
    job.run(mode=mode, checkpoint_dir=tmp_path, checkpoint_interval="50ms")
    assert written(kafka, topic) == EXPECTED


def test_a_job_that_fails_and_starts_again_writes_nothing_twice(kafka, tmp_path):
    topic = kafka.topic(3)
    failures = iter([1_000, 2_000])
    at = [next(failures)]

    def fragile(row: dict) -> dict:
        if row["n"] == at[0]:
            at[0] = next(failures, -1)
            raise RuntimeError("not this time")
        return row

    def job():
        job = sf.Job(topic)
        rows = job.read(sf.MemorySource(frame(), batch_rows=100))
        rows.map(fragile, schema={"k": sf.String, "n": sf.Int64}).write(
            KafkaSink(topic, kafka.bootstrap, key="k")
        )
        return job

    settings = {
        "mode": "micro-batch",
        "micro_batch_interval": "1ms",
        "checkpoint_dir": tmp_path,
        "batch_rows": 100,
    }
    for most in (1_000, 2_000):
        with pytest.raises(sf.StreamflowError):
            job().run(**settings, restart="none")
        assert 0 < len(kafka.read(topic)) <= most
    job().run(**settings)
    assert written(kafka, topic) == EXPECTED


def test_two_topics_are_published_in_one_transaction(kafka):
    one, other = kafka.topic(1), kafka.topic(1)
    job = sf.Job(one)
    rows = job.read(sf.MemorySource(frame(10)))
    rows.write(KafkaSink(one, kafka.bootstrap))
    rows.write(KafkaSink(other, kafka.bootstrap))
    result = job.run(mode="batch")
    assert [len(kafka.read(topic)) for topic in (one, other)] == [10, 10]
    # Ten records and the end of one transaction each.
    for topic in (one, other):
        kafka.produce(topic, [(None, "next")])
    assert [kafka.read(topic)[-1].offset for topic in (one, other)] == [11, 11]
    assert result.epochs == 1


def test_headers_and_timestamps_arrive(kafka):
    topic = kafka.topic(1)
    at = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    job = sf.Job(topic)
    rows = job.read(sf.MemorySource(pl.DataFrame({"k": ["a"], "at": [at]})))
    rows.write(
        KafkaSink(
            topic, kafka.bootstrap, key="k", value="k", format="text", headers={"h": "k"}, timestamp="at"
        )
    )
    job.run(mode="batch")
    (record,) = kafka.read(topic)
    assert (record.value, record.key, record.headers) == (b"a", b"a", [("h", b"a")])
    assert record.timestamp == int(at.timestamp() * 1_000_000)


def test_the_topic_is_made_where_the_sink_may(kafka):
    topic = kafka.name()
    job = sf.Job(topic)
    job.read(sf.MemorySource(frame(10))).write(
        KafkaSink(topic, kafka.bootstrap, key="k", create={"partitions": 5})
    )
    job.run(mode="batch")
    assert len(kafka.read(topic)) == 10
    kafka.produce(topic, [(None, "in the last of five", 4)])
    assert kafka.read(topic)[-1].partition == 4


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_topic_that_is_not_there(kafka, delivery):
    topic = kafka.topic(1)
    job = sf.Job(topic)
    job.read(sf.MemorySource(frame(10))).write(KafkaSink(topic + "x", kafka.bootstrap, delivery=delivery))
    with pytest.raises(SinkError, match=f"there is no topic '{topic}x'; did you mean '{topic}'"):
        job.run(mode="batch")


def test_a_transaction_timeout_that_the_broker_does_not_allow(kafka):
    topic = kafka.topic(1)
    job = sf.Job(topic)
    job.read(sf.MemorySource(frame(10))).write(KafkaSink(topic, kafka.bootstrap, transaction_timeout="1d"))
    with pytest.raises(SinkError, match=r"lower transaction_timeout="):
        job.run(mode="batch")


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_record_too_large_is_told_before_it_is_sealed(kafka, delivery):
    topic = kafka.topic(1, max_message_bytes=1_000)
    job = sf.Job(topic)
    job.read(sf.MemorySource(pl.DataFrame({"k": ["a", "b" * 2_000]}))).write(
        KafkaSink(topic, kafka.bootstrap, delivery=delivery)
    )
    with pytest.raises(SinkError, match="row 1 of a batch is a record of 2,008 bytes"):
        job.run(mode="batch")
    assert kafka.read(topic) == []


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_many_small_records_to_a_topic_that_takes_only_small_batches(kafka, delivery):
    topic = kafka.topic(1, max_message_bytes=1_000)
    job = sf.Job(topic)
    job.read(sf.MemorySource(frame(500))).write(
        KafkaSink(topic, kafka.bootstrap, delivery=delivery, compression=None)
    )
    job.run(mode="batch")
    assert [json.loads(record.value)["n"] for record in kafka.read(topic)] == list(range(500))


def test_a_full_outbox_asks_for_the_epoch_to_end(kafka):
    sink = KafkaSink(kafka.topic(1), kafka.bootstrap, outbox_bytes="1MiB")
    asked = []

    async def scenario():
        async with Run(sink, end_epoch=lambda: asked.append(1)) as run:
            await run.writer.write(FrameBatch(frame(1_000)))
            assert not asked
            # What compression cannot make small.
            noise = ["".join(sha512(b"%d %d" % (n, i)).hexdigest() for i in range(3)) for n in range(10_000)]
            await run.writer.write(FrameBatch(pl.DataFrame({"k": noise, "n": range(10_000)})))

    asyncio.run(scenario())
    assert asked


def test_a_sink_that_goes_leaves_the_other_of_its_cluster_able_to_go_on(kafka, tmp_path):
    one, other = kafka.topic(1), kafka.topic(1)

    def run(*topics):
        job = sf.Job(one)
        rows = job.read(sf.MemorySource(frame(10)))
        for topic in topics:
            rows.write(KafkaSink(topic, kafka.bootstrap))
        return job.run(mode="streaming", checkpoint_dir=tmp_path)

    run(one, other)
    run(one)
    assert len(kafka.read(one)) == len(kafka.read(other)) == 10


def test_a_compacted_topic_holds_a_changing_result_and_is_a_table_again(kafka, tmp_path):
    topic, out = kafka.topic(3), kafka.topic(1)
    rows = [{"k": f"k{n % 5}", "n": n} for n in range(50)]
    gone = [{"k": "k1", "n": None}]
    job = sf.Job(topic)
    latest = job.read(sf.MemorySource(rows + gone)).parallel(1).to_table("k", deleted=sf.col("n").is_null())
    latest.changes().write(KafkaSink(topic, kafka.bootstrap, key="k", changes="upsert"))
    job.run(mode="streaming", batch_rows=1, checkpoint_dir=tmp_path, checkpoint_interval="20ms")
    last = {}
    for record in kafka.read(topic):
        last[record.key] = None if record.value is None else json.loads(record.value)
    assert last == {b"k1": None} | {f"k{n}".encode(): {"k": f"k{n}", "n": 45 + n} for n in (0, 2, 3, 4)}

    job = sf.Job(out)
    source = sf.KafkaSource(
        topic,
        bootstrap_servers=kafka.bootstrap,
        schema={"k": sf.String, "n": sf.Int64},
        include={"key": "id"},
        key_format="text",
        tombstones="keep",
        end="latest",
    )
    table = job.table(source, key="id", deleted=sf.col("n").is_null())
    asked = job.read(sf.MemorySource([{"id": f"k{n}"} for n in range(6)]))
    found = asked.join(table, how="left").collect()
    job.run()
    assert {row["id"]: row["n"] for row in found.rows()} == {
        "k0": 45, "k1": None, "k2": 47, "k3": 48, "k4": 49, "k5": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"changes": "upsert"}, "an upsert without a key"),
        ({"changes": "upserts"}, "changes"),
        ({"changes": "append"}, "takes no update_after, update_before"),
    ],
)
def test_changes_that_a_topic_does_not_take_are_refused_when_the_job_is_built(arguments, message):
    job = sf.Job("refused")
    totals = job.read(sf.MemorySource(frame(1))).key_by("k").aggregate(n=sf.sum("n"))
    with pytest.raises(sf.JobDefinitionError, match=message):
        totals.write(KafkaSink("topic", **arguments))
