"""History from files, then the live topic: every record once, wherever the one ends and whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

import streamflow as sf
from tests.kafka.topics import Topics

SCHEMA = {"n": sf.Int64, "at": sf.Datetime}
ORIGIN = ["topic", "partition", "offset"]


def _value(n: int) -> bytes:
    return json.dumps({"n": n, "at": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"}).encode()


def _feed(kafka: Topics, topic: str, numbers: Sequence[int]) -> None:
    kafka.produce(topic, [(str(n), _value(n), n % 2, 1_767_225_600_000_000 + n * 1_000_000) for n in numbers])


def _live(kafka: Topics, topic: str, **options: object) -> sf.KafkaSource:
    return sf.KafkaSource(topic, kafka.bootstrap, schema=SCHEMA, **options)


def _archive(kafka: Topics, topic: str, folder: Path) -> sf.FileSource:
    """The topic's present content as files with the place of each record."""
    job = sf.Job("archive")
    live = _live(kafka, topic, include=ORIGIN, end="latest")
    job.read(live).write(sf.FileSink(folder, roll=40))
    job.run()
    return sf.FileSource(f"{folder}/*.parquet")


def _numbers(source: sf.HybridSource, **settings: object) -> list[int]:
    job = sf.Job("hybrid")
    out = job.read(source, event_time="at", watermark=sf.bounded_disorder("1h")).select("n").collect()
    job.run(**settings)
    return sorted(row["n"] for row in out.rows())


@pytest.mark.parametrize("mode", ["batch", "streaming"])
def test_the_offsets_in_the_files_say_where_to_go_on(kafka: Topics, tmp_path: Path, mode: str) -> None:
    topic = kafka.topic(2)
    _feed(kafka, topic, range(200))
    files = _archive(kafka, topic, tmp_path / "archive")
    _feed(kafka, topic, range(200, 300))
    live = _live(kafka, topic, include=ORIGIN, end="latest")
    assert _numbers(sf.HybridSource(files, then=live, offsets=ORIGIN), mode=mode) == list(range(300))


def test_a_partition_of_which_the_files_have_nothing_is_read_from_its_beginning(
    kafka: Topics, tmp_path: Path
) -> None:
    topic = kafka.topic(2)
    _feed(kafka, topic, range(0, 100, 2))
    files = _archive(kafka, topic, tmp_path / "archive")
    _feed(kafka, topic, range(1, 100, 2))
    live = _live(kafka, topic, include=ORIGIN, end="latest")
    assert _numbers(sf.HybridSource(files, then=live, offsets=ORIGIN)) == list(range(100))


def test_a_moment_divides_what_both_hold(kafka: Topics, tmp_path: Path) -> None:
    topic = kafka.topic(2)
    _feed(kafka, topic, range(50, 300))
    history = tmp_path / "history.ndjson"
    history.write_bytes(b"\n".join(_value(n) for n in range(200)))
    files = sf.FileSource(history, schema=SCHEMA)
    live = _live(kafka, topic, end="latest")
    source = sf.HybridSource(files, then=live, at="2026-01-01T00:02:00Z", time="at")
    assert _numbers(source) == list(range(300))
    # The other way: what is dropped on one side has to come from the other, or the test above would hold by chance.
    assert _numbers(sf.HybridSource(files, then=live, at="2026-01-01T00:04:00Z", time="at")) == [
        *range(200),
        *range(240, 300),
    ]


def test_a_job_that_is_stopped_on_either_side_goes_on_there(kafka: Topics, tmp_path: Path) -> None:
    """Stopped in the middle of the files, started, stopped when it is live, started again: each record once."""
    topic = kafka.topic(2)
    _feed(kafka, topic, range(4_000))
    files = _archive(kafka, topic, tmp_path / "archive")
    _feed(kafka, topic, range(4_000, 4_100))

    def job() -> sf.Job:
        made = sf.Job("hybrid-restarted")
        source = sf.HybridSource(files, then=_live(kafka, topic, include=ORIGIN), offsets=ORIGIN)
        made.read(source, event_time="at").select("n").write(sf.FileSink(tmp_path / "out", format="ndjson"))
        return made

    async def until(records: int) -> int:
        settings = {"checkpoint_dir": tmp_path / "checkpoints", "batch_rows": 16, "read_ahead": 1}
        handle = await job().start(mode="streaming", state_backend="memory", **settings)
        async with asyncio.timeout(60):
            while handle.status().records_read < records:  # noqa: ASYNC110 — a status has no event to wait for
                await asyncio.sleep(0.002)
        return (await handle.stop()).records_in["read-1"]

    first = asyncio.run(until(500))
    assert first < 4_000, "it was to be stopped within the files"
    second = asyncio.run(until(4_100 - first))
    _feed(kafka, topic, range(4_100, 4_200))
    third = asyncio.run(until(100))
    assert (first + second, third) == (4_100, 100)
    out = pl.read_ndjson(tmp_path / "out" / "*.ndjson")
    assert sorted(out["n"]) == list(range(4_200))


def test_what_does_not_fit_is_said_when_the_job_is_built(kafka: Topics, tmp_path: Path) -> None:
    history = tmp_path / "history.ndjson"
    history.write_bytes(_value(1))
    files = sf.FileSource(history, schema=SCHEMA)
    with pytest.raises(sf.JobDefinitionError, match="different columns"):
        sf.HybridSource(files, then=_live(kafka, "t", include=ORIGIN), offsets=ORIGIN)
    with pytest.raises(sf.JobDefinitionError, match="does not know where the second source begins"):
        sf.HybridSource(files, then=_live(kafka, "t"))
    with pytest.raises(sf.JobDefinitionError, match="does not end"):
        sf.HybridSource(_live(kafka, "t"), then=_live(kafka, "t"), at="2026-01-01", time="at")
    with pytest.raises(sf.JobDefinitionError, match="'n' is Int64, no time"):
        sf.HybridSource(files, then=_live(kafka, "t"), at="2026-01-01", time="n")


def test_each_side_is_read_from_its_own_cluster(kafka: Topics) -> None:
    topic = kafka.topic(2)
    _feed(kafka, topic, range(10))
    elsewhere = sf.KafkaSource(topic, "127.0.0.1:9", schema=SCHEMA, start="2026-01-01", end="latest")
    source = sf.HybridSource(
        _live(kafka, topic, end="latest"), then=elsewhere, at="2026-01-01T00:00:05Z", time="at"
    )
    job = sf.Job("hybrid")
    out = job.read(source).collect()

    async def whole() -> None:
        handle = await job.start(mode="streaming")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await handle.wait()
        await handle.cancel()

    with contextlib.suppress(sf.SourceError):
        asyncio.run(whole())
    assert all(row["n"] < 5 for row in out.rows())
