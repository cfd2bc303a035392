"""Records that cannot be used go to a topic as they were, with the reason, in the transaction of the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.operators.connectors.collect import Collected, CollectSink
from tests.kafka.topics import Topics


def _run(kafka: Topics, source: str, target: str, dead: str, folder: Path, **options: Any) -> sf.JobResult:
    job = sf.Job(f"dead-{source}")
    read = sf.KafkaSource(source, kafka.bootstrap, schema={"n": sf.Int64}, end="latest", **options)
    rows = job.read(read).on_error(sf.KafkaSink(dead, kafka.bootstrap))
    halves = rows.map(_half).on_error(sf.KafkaSink(dead, kafka.bootstrap))
    halves.write(sf.KafkaSink(target, kafka.bootstrap))
    return job.run(checkpoint_dir=folder, checkpoint_interval="100ms", mode="streaming")


def _half(row: dict[str, Any]) -> dict[str, Any]:
    return {"half": 10 // row["n"]}


def test_a_bad_record_is_kept_as_it_was_with_the_reason_and_its_origin(kafka: Topics, tmp_path: Path) -> None:
    source, target, dead = kafka.topic(1), kafka.topic(1), kafka.topic(1)
    bad = b'{"n": "\xff\x00 no number'
    kafka.produce(
        source,
        [
            ("a", b'{"n": 5}'),
            ("b", bad, None, 1_500_000_000_000_000, [("trace", b"7")]),
            ("c", b'{"n": 0}'),
            (None, b'{"n": 2}'),
        ],
    )
    result = _run(kafka, source, target, dead, tmp_path)
    assert result.errors == 2
    assert [json.loads(record.value or b"") for record in kafka.read(target)] == [{"half": 2}, {"half": 5}]
    first, second = sorted(kafka.read(dead), key=lambda record: record.value != bad)
    assert (first.key, first.value) == (b"b", bad)
    headers = dict(first.headers)
    assert headers.pop("trace") == b"7"
    assert headers.pop("streamflow.reason")
    assert headers == {
        "streamflow.job": f"dead-{source}".encode(),
        "streamflow.operator": b"read-1",
        "streamflow.split": f"{source}-0".encode(),
        "streamflow.offset": b"offset 1",
        "streamflow.origin.topic": source.encode(),
        "streamflow.origin.partition": b"0",
        "streamflow.origin.offset": b"1",
        "streamflow.origin.timestamp": b"1500000000000",
    }
    # One that was read and failed later: what is known of it by then.
    assert b"0" in (second.value or b"")
    assert b"ZeroDivisionError" in (dict(second.headers)["streamflow.reason"] or b"")


def test_a_record_that_is_too_large_is_cut_and_does_not_stop_the_job(kafka: Topics, tmp_path: Path) -> None:
    source, target, dead = kafka.topic(1), kafka.topic(1), kafka.topic(1, max_message_bytes=200_000)
    kafka.produce(source, [("k" * 60_000, b"x" * 800_000), ("a", b'{"n": 5}')])
    result = _run(kafka, source, target, dead, tmp_path, max_record_bytes="100kB")
    assert result.errors == 1
    assert len(kafka.read(target)) == 1
    [letter] = kafka.read(dead)
    assert 0 < len(letter.value or b"") < 200_000
    assert dict(letter.headers)["streamflow.bytes"] == b"800000"


@pytest.mark.parametrize("most", [1_000, 300])
def test_a_dead_letter_fits_into_a_topic_of_small_records(kafka: Topics, tmp_path: Path, most: int) -> None:
    source, target, dead = kafka.topic(1), kafka.topic(1), kafka.topic(1, max_message_bytes=most)
    large = [("trace", b"7" * 5_000)]
    kafka.produce(source, [("k" * 5_000, b"x" * 5_000, None, None, large), ("a", b"bad"), ("b", b'{"n": 5}')])
    result = _run(kafka, source, target, dead, tmp_path)
    assert result.errors == 2
    assert len(kafka.read(target)) == 1
    first, second = kafka.read(dead)
    assert (first.key, second.key, second.value) == (None, b"a", b"bad")
    assert set(first.value or b"") == {ord("x")}
    for letter, offset in ((first, b"0"), (second, b"1")):
        told = dict(letter.headers)
        assert (told["streamflow.reason"] or b"").startswith(b"the value is not")
        assert told["streamflow.origin.offset"] == offset
    assert dict(first.headers)["streamflow.bytes"] == b"5000"


def test_a_compacted_topic_of_dead_letters_takes_records_without_a_key(kafka: Topics, tmp_path: Path) -> None:
    source, target = kafka.topic(1), kafka.topic(1)
    dead = kafka.topic(1, cleanup_policy="compact")
    kafka.produce(source, [(None, b"bad"), (None, b"bad"), ("k", b"bad"), ("a", b'{"n": 5}')])
    result = _run(kafka, source, target, dead, tmp_path)
    assert result.errors == 3
    found = kafka.read(dead)
    assert [letter.value for letter in found] == 3 * [b"bad"]
    assert len({letter.key for letter in found}) == 3
    assert b"k" in {letter.key for letter in found}


def test_a_reason_with_half_of_a_surrogate_pair_is_a_reason(kafka: Topics, tmp_path: Path) -> None:
    def refused(row: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("half \ud83d")

    dead, kept = kafka.topic(1), Collected()
    job = sf.Job(f"surrogates-{dead}")
    rows = job.read(sf.MemorySource([{"n": 1}])).map(refused)
    rows.on_error(sf.KafkaSink(dead, kafka.bootstrap)).collect()
    rows = job.read(sf.MemorySource([{"n": 1}])).map(refused)
    rows.on_error(CollectSink(kept)).collect()
    assert job.run(checkpoint_dir=tmp_path).errors == 2
    [letter] = kafka.read(dead)
    assert dict(letter.headers)["streamflow.reason"] == rb"ValueError: half \ud83d"
    assert kept.frame()["reason"].to_list() == [r"ValueError: half \ud83d"]


def test_dead_letters_are_in_the_transaction_of_the_output(kafka: Topics, tmp_path: Path) -> None:
    """One committer, one transaction: the progress topic has one marker of an epoch with output, not two."""
    source, target, dead = kafka.topic(1), kafka.topic(1), kafka.topic(1)
    kafka.produce(source, [(None, b"no JSON"), (None, b'{"n": 5}')] * 20)
    result = _run(kafka, source, target, dead, tmp_path)
    assert (len(kafka.read(target)), len(kafka.read(dead))) == (20, 20)
    assert result.checkpoint is not None
    markers = kafka.read(f"streamflow.dead-{source}.progress")
    epochs = [json.loads(marker.value or b"")["epoch"] for marker in markers]
    assert epochs[0] == 0  # where the run began
    assert len(epochs) > 1
    assert epochs == sorted(set(epochs))
    assert epochs[-1] <= result.checkpoint.taken
