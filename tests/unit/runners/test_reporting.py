"""A job's reports: the split that holds the watermark back, waiting output, things passed over."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import streamflow as sf
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.observe.health import Health
from streamflow.observe.registry import MetricsRegistry
from streamflow.runners.reporting import Reporter
from streamflow.runners.watch import Watch
from streamflow.runtime.checkpoints.taking import CheckpointMetrics, Checkpoints
from streamflow.runtime.control.restart import RestartPolicy
from streamflow.runtime.figures import Figures, SourceFigures
from streamflow.runtime.ports import Inline, Ports
from streamflow.runtime.profile import profile_for
from streamflow.testing.clock import TestClock
from streamflow.time.timestamps import MIN_TIME


class _Clock:
    seconds = 1_000.0

    def now(self) -> int:
        return round(self.seconds * 1e6)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


class _Told:
    def __init__(self, checkpoints: CheckpointMetrics | None = None) -> None:
        job = sf.Job("told")
        one, other = (job.read(sf.MemorySource([{"n": 1}])) for _ in range(2))
        one.union(other).collect()
        settings = Settings()
        self.clock = _Clock()
        self.registry = MetricsRegistry("told")
        self.health = Health("told", self.clock)
        self.reporter = Reporter(
            job.graph,
            physical_plan(job.graph, settings),
            profile_for("streaming", settings, bounded=True),
            self.registry,
            checkpoints,
            RestartPolicy.of(settings),
            self.health,
            self.clock,
        )
        self.watch = Watch(self.registry, self.reporter, self.health, self.clock)

    def runs(self, *loops: tuple[str | None, int], other: tuple[str | None, int] | None = None) -> None:
        """A worker runs whose source subtasks are held back by these splits, at these watermarks, and one of another
        source."""
        sources = {
            source: tuple(
                SourceFigures(subtask, split, watermark, watermark, watermark)
                for subtask, (split, watermark) in enumerate(its)
            )
            for source, its in (("read-1", loops), ("read-2", () if other is None else (other,)))
        }
        figures = Figures(sources=sources)
        attempt: Any = SimpleNamespace(figures=lambda holds: figures, coordinator=SimpleNamespace(epoch=0))
        self.reporter.attempt = attempt

    def series(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [(metric.labels, metric.value) for metric in self.registry if metric.name == name]


HOLDER = "streamflow_watermark_holder_lag_seconds"


def test_one_series_says_which_split_holds_a_subtask_back() -> None:
    told = _Told()
    told.watch.look()
    assert told.series(HOLDER) == []
    told.runs(("t-0", 990_000_000), ("t-3", 900_000_000))
    told.watch.look()
    labels = {"operator": "read-1", "subtask": "0", "split": "t-0"}
    assert told.series(HOLDER) == [(labels, 10.0), ({**labels, "subtask": "1", "split": "t-3"}, 100.0)]
    told.clock.seconds += 5
    told.runs(("t-2", 995_000_000), (None, 900_000_000))
    told.watch.look()
    assert told.series(HOLDER) == [({**labels, "split": "t-2"}, 10.0)]
    told.runs(("t-2", MIN_TIME))
    told.watch.look()
    assert told.series(HOLDER) == []


@pytest.mark.parametrize("same_source", [True, False])
def test_an_empty_split_that_holds_windows_open_is_named_after_a_minute(
    same_source: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told = _Told()
    if same_source:
        told.runs(("t-0", MIN_TIME), (None, 900_000_000))
    else:
        told.runs(("t-0", MIN_TIME), other=(None, 900_000_000))
    told.watch.look()
    told.clock.seconds += 59
    told.watch.look()
    assert (told.series(HOLDER), caplog.records) == ([], [])
    told.clock.seconds += 2
    told.watch.look()
    told.watch.look()
    [warning] = caplog.records
    assert "idle_after" in warning.message
    assert vars(warning)["told"] == {"source": "read-1", "split": "t-0", "seconds": 61}
    [(labels, seconds)] = told.series(HOLDER)
    assert (labels["split"], seconds) == ("t-0", 61)


def test_the_state_is_one_of_all_that_there_are() -> None:
    told = _Told()
    for state in ("starting", "running", "failed"):
        told.health.state = state
        found = {labels["state"]: value for labels, value in told.series("streamflow_job_state")}
        assert len(found) == 5
        assert [name for name, value in found.items() if value] == [state]


def test_output_that_waits_and_output_that_was_published_are_summed_up() -> None:
    told = _Told()
    assert told.reporter.status("running", ()).publication is None
    metrics = told.registry.operator("write-1", 0)
    for each in (told.registry.operator("write-1", 1), metrics):
        each.gauge("streamflow_outbox_records", "").set(10)
        each.gauge("streamflow_outbox_bytes", "").set(100)
    metrics.counter("streamflow_publications_total", "").add(3)
    metrics.counter("streamflow_publication_retries_total", "").add(1)
    status = told.reporter.status("running", ()).publication
    assert status is not None
    assert (status.waiting_records, status.waiting_bytes, status.published, status.age) == (20, 200, 3, None)
    metrics.gauge("streamflow_publication_timestamp_seconds", "").set(998.0)
    metrics.gauge("streamflow_publication_seconds", "").set(0.25)
    status = told.reporter.status("running", ()).publication
    assert status is not None
    assert (status.age, status.duration, status.retries) == (2.0, 0.25, 1)


def test_the_lag_in_records_is_known_only_where_a_log_says_so() -> None:
    told = _Told()
    assert told.reporter.status("running", ()).operators[0].lag_records is None
    metrics = told.registry.operator("read-1", 0)
    for split, lag in (("t-0", 5), ("t-1", 7)):
        metrics.gauge("streamflow_kafka_lag_records", "", {"split": split}).set(lag)
    assert told.reporter.status("running", ()).operators[0].lag_records == 12


def test_masses_of_bad_records_are_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    told = _Told()
    errors = told.registry.operator("parse", 0).errors
    for _ in range(25):
        errors.add(100)
        told.clock.seconds += 1
        told.watch.look()
    said = [record.__dict__["told"] for record in caplog.records]
    assert said == [
        {"operator": "parse", "records": 1_000, "in_all": 1_000},
        {"operator": "parse", "records": 1_000, "in_all": 2_000},
    ]
    told.watch.tell()
    told.watch.tell()
    assert [record.__dict__["told"]["records"] for record in caplog.records[2:]] == [500]


def test_old_checkpoints_that_cannot_be_removed_are_no_failed_checkpoints() -> None:
    def retain() -> None:
        raise OSError("read-only file system")

    metrics = CheckpointMetrics()
    store: Any = SimpleNamespace(retain=retain)
    checkpoints = Checkpoints(
        store,
        Ports(clock=TestClock(), io=Inline(), cpu=Inline()),
        mode="streaming",
        max_parallelism=1,
        operators=[],
        parent=None,
        tolerated=3,
        metrics=metrics,
        line="line",
    )
    asyncio.run(checkpoints.retain())
    assert (metrics.not_removed, metrics.failed, metrics.failed_in_a_row) == (1, 0, 0)
    told = _Told(metrics)
    assert told.series("streamflow_checkpoint_retention_failures_total") == [({}, 1.0)]
    assert told.series("streamflow_checkpoint_failures_total") == [({}, 0.0)]
