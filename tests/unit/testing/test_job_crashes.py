"""`TestJob.crash` and `restore`: state, positions and outputs are those of the last checkpoint, at any parallelism."""

from typing import Any

import pytest

import streamflow as sf
from streamflow.errors import ConfigError, JobDefinitionError
from streamflow.testing import TestJob


def job() -> sf.Job:
    job = sf.Job("Counts, by key")
    rows = job.read(sf.MemorySource([{"k": "a", "ts": 0}]), event_time=sf.epoch("ts", unit="s"))
    rows.key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count()).collect()
    return job


def events(second: int, keys: str = "abcdefgh") -> list[dict[str, Any]]:
    return [{"k": key, "ts": second} for key in keys]


def counts(t: TestJob) -> list[tuple[str, int]]:
    return sorted((row["k"], row["n"]) for row in t.output().rows())


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 2)])
def test_a_window_is_counted_once_over_a_crash(before: int, after: int) -> None:
    with TestJob(job(), parallelism=before) as t:
        t.source().push(events(1))
        t.checkpoint()
        t.source().push(events(2)).push(events(11))
        t.crash()
        t.restore(parallelism=after)
        t.source().push(events(3)).advance_watermark("1970-01-01T00:00:10")
        assert counts(t) == [(key, 3) for key in "abcdefgh"]
        t.finish()
        assert len(counts(t)) == 16


def test_output_after_the_last_checkpoint_is_not_there_twice() -> None:
    with TestJob(job()) as t:
        t.source().push(events(1, "a")).advance_watermark(10_000_000)
        t.checkpoint()
        t.source().push(events(11, "a")).advance_watermark(20_000_000)
        assert counts(t) == [("a", 1), ("a", 1)]
        t.crash()
        assert counts(t) == [("a", 1)]
        t.restore()
        assert counts(t) == [("a", 1), ("a", 1)]
        assert t.status().records_read == 1


def test_without_a_checkpoint_it_starts_again() -> None:
    with TestJob(job()) as t:
        t.source().push(events(1, "a")).advance_watermark(10_000_000)
        t.crash().restore()
        assert counts(t) == [("a", 1)]


def test_checkpoints_come_by_themselves_where_that_is_asked_for() -> None:
    with TestJob(job(), checkpoint_interval="10s") as t:
        t.source().push(events(1, "a"))
        t.advance_processing_time("25s")
        checkpoint = t.status().checkpoint
        assert checkpoint is not None
        assert checkpoint.number == 2


def test_with_state_in_rocksdb_no_checkpoints_are_taken() -> None:
    with TestJob(job(), state_backend="rocksdb") as t:
        t.source().push(events(1, "a"))
        with pytest.raises(ConfigError, match="takes no checkpoints"):
            t.checkpoint()
        t.crash().restore()
        t.finish()
        assert counts(t) == [("a", 1)]


def test_a_crashed_job_does_nothing_until_it_is_restored() -> None:
    with TestJob(job()) as t:
        with pytest.raises(JobDefinitionError, match="nothing to restore"):
            t.restore()
        t.crash()
        with pytest.raises(JobDefinitionError, match="the job has crashed; call restore"):
            t.source().push(events(1))
