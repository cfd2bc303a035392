"""Metrics of workers in the registry of the whole job: they add up as if there were one process."""

from __future__ import annotations

from math import isnan, nan

from streamflow.observe.changes import Changes, ChangeTracker, Declared, WorkerSeries
from streamflow.observe.registry import MetricsRegistry, added


class Worker:
    """A worker's attempt: its registry begins at zero, and is told to that of the whole job."""

    def __init__(self, whole: MetricsRegistry, number: int = 0) -> None:
        self.registry = MetricsRegistry("told")
        self._tracker = ChangeTracker(self.registry)
        self.series = WorkerSeries(whole, number)

    def tell(self) -> Changes:
        changes = self._tracker.changes()
        self.series.take(changes)
        return changes


def series(registry: MetricsRegistry, name: str) -> dict[str, float]:
    return {metric.labels.get("split", ""): metric.value for metric in registry if metric.name == name}


def test_counters_of_several_workers_add_up_and_gauges_are_as_they_were_said_last() -> None:
    whole = MetricsRegistry("whole")
    workers = [Worker(whole, number) for number in (0, 1)]
    for number, worker in enumerate(workers):
        metrics = worker.registry.operator("read-1", number)
        metrics.records_in.add(5)
        metrics.gauge("streamflow_busy_ratio", "").set(0.5)
        worker.registry.operator("read-1", 0).counter("streamflow_reconnects_total", "").add(1)
        worker.tell()
        metrics.records_in.add(2 + number)
        metrics.gauge("streamflow_busy_ratio", "").set(0.25)
        worker.tell()
    assert whole.total("streamflow_records_in_total", "read-1") == 15
    assert whole.operator("read-1", 1).records_in.value == 8
    assert whole.total("streamflow_reconnects_total", "read-1") == 2
    assert [each.value for each in whole if each.name == "streamflow_busy_ratio"] == [0.25, 0.25]
    assert next(each for each in whole if each.name == "streamflow_busy_ratio").labels == {
        "operator": "read-1",
        "subtask": "0",
    }


def test_series_are_there_before_they_count_and_are_declared_once() -> None:
    whole = MetricsRegistry("whole")
    worker = Worker(whole)
    worker.registry.operator("map-1", 0)
    first = worker.tell()
    assert {each.name for each in first.declared} >= {"streamflow_records_in_total"}
    assert first.values == {}
    assert "streamflow_records_in_total" in whole.totals("map-1")
    assert worker.tell() == Changes()


def test_a_gauge_that_is_not_a_number_is_said_once() -> None:
    whole = MetricsRegistry("whole")
    worker = Worker(whole)
    gauge = worker.registry.operator("map-1", 0).gauge("streamflow_watermark_lag_seconds", "")
    gauge.set(nan)
    worker.tell()
    assert isnan(series(whole, "streamflow_watermark_lag_seconds")[""])
    assert worker.tell().values == {}


def test_gauges_that_move_by_themselves_are_refreshed_before_they_are_told() -> None:
    whole = MetricsRegistry("whole")
    worker = Worker(whole)
    metrics = worker.registry.operator("read-1", 0)
    lag = metrics.gauge("streamflow_lag", "")
    metrics.refreshed_by(lambda: lag.set(lag.value + 1))
    worker.tell()
    worker.tell()
    assert series(whole, "streamflow_lag") == {"": 2.0}


def test_series_that_are_gone_are_removed_and_may_come_again() -> None:
    whole = MetricsRegistry("whole")
    worker = Worker(whole)
    metrics = worker.registry.operator("read-1", 0)
    for split in ("a", "b"):
        metrics.gauge("streamflow_lag", "", {"split": split}).set(1)
    worker.tell()
    metrics.remove("streamflow_lag", {"split": "a"})
    worker.tell()
    assert series(whole, "streamflow_lag") == {"b": 1.0}
    metrics.remove("streamflow_lag", {"split": "b"})
    metrics.gauge("streamflow_lag", "", {"split": "b"}).set(3)
    worker.tell()
    metrics.gauge("streamflow_lag", "", {"split": "b"}).set(4)
    worker.tell()
    assert series(whole, "streamflow_lag") == {"b": 4.0}


def test_a_split_that_moves_to_another_worker_is_shown_once() -> None:
    whole = MetricsRegistry("whole")
    one, other = Worker(whole, 0), Worker(whole, 1)
    labels = {"split": "a"}
    mine = one.registry.operator("read-1", 0)
    mine.gauge("streamflow_lag", "", labels).set(1)
    one.tell()
    mine.remove("streamflow_lag", labels)
    one.tell()
    other.registry.operator("read-1", 0).gauge("streamflow_lag", "", labels).set(9)
    other.tell()
    one.series.forget()
    assert series(whole, "streamflow_lag") == {"a": 9.0}


def test_after_a_restart_counters_go_on_from_the_checkpoint_and_a_scrape_sees_none_go_down() -> None:
    whole = MetricsRegistry("whole")
    base = whole.counts
    worker = Worker(whole)
    counter = worker.registry.operator("read-1", 0).records_in
    counter.add(10)
    worker.tell()
    at_checkpoint = added(base, worker.registry.counts)
    counter.add(5)
    worker.registry.operator("read-1", 0).gauge("streamflow_lag", "", {"split": "a"}).set(7)
    worker.tell()

    whole.roll_back(at_checkpoint)
    worker.series.forget()
    assert series(whole, "streamflow_lag") == {}
    base = whole.counts
    again = Worker(whole)
    again.registry.operator("read-1", 0).records_in.add(3)
    again.tell()
    total = whole.operator("read-1", 0).records_in
    assert (total.value, total.exported) == (13, 15)
    again.registry.operator("read-1", 0).records_in.add(4)
    again.tell()
    assert (total.value, total.exported) == (17, 17)
    assert added(base, again.registry.counts) == whole.counts


def test_series_of_a_process_carry_the_number_of_their_worker() -> None:
    whole = MetricsRegistry("whole")
    for number in (0, 1):
        worker = Worker(whole, number)
        worker.registry.whole.counter("streamflow_fenced_messages_total", "").add(1 + number)
        worker.tell()
    found = {each.labels["worker"]: each.value for each in whole.whole}
    assert found == {"0": 1.0, "1": 2.0}


def test_values_of_a_series_that_nobody_declared_are_left_out() -> None:
    whole = MetricsRegistry("whole")
    mine = WorkerSeries(whole, 0)
    mine.take(Changes(values={7: 1.0}, removed=(7,)))
    mine.take(Changes((Declared(7, None, "streamflow_x_total", "", "counter", {}),), {7: 1.0}))
    assert whole.total("streamflow_x_total") == 1
