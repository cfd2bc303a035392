"""Handles with labels of their own: kept apart, summed, forgotten."""

from __future__ import annotations

from streamflow.observe.prometheus import RegistryCollector
from streamflow.observe.registry import Metrics, MetricsRegistry


def test_the_same_name_and_labels_give_the_same_handle() -> None:
    metrics = Metrics({"operator": "read-1"})
    first = metrics.gauge("lag", "Lag", {"split": "a-0", "topic": "a"})
    assert metrics.gauge("lag", "Lag", {"topic": "a", "split": "a-0"}) is first
    assert metrics.gauge("lag", "Lag", {"topic": "a", "split": "a-1"}) is not first
    assert metrics.gauge("lag", "Lag") is not first
    assert first.labels == {"operator": "read-1", "split": "a-0", "topic": "a"}


def test_series_of_one_name_are_summed_and_one_can_be_forgotten() -> None:
    registry = MetricsRegistry("job")
    for subtask, lags in enumerate([(1, 2), (4, 8)]):
        for split, lag in enumerate(lags):
            registry.operator("read-1", subtask).gauge("lag", "Lag", {"split": f"{subtask}-{split}"}).set(lag)
    assert registry.total("lag", "read-1") == registry.total("lag") == 15
    registry.operator("read-1", 1).remove("lag", {"split": "1-1"})
    registry.operator("read-1", 1).remove("lag", {"split": "unknown"})
    registry.operator("read-1", 1).remove("unknown")
    assert registry.total("lag") == 7
    assert registry.operator("read-1", 1).gauge("lag", "Lag", {"split": "1-1"}).value == 0


def test_series_with_other_labels_are_exported_under_one_name() -> None:
    registry = MetricsRegistry("job")
    registry.whole.gauge("lag", "Lag").set(1)
    registry.operator("read-1", 0).gauge("lag", "Lag", {"split": "a-0"}).set(2)
    family = next(family for family in RegistryCollector(registry).collect() if family.name == "lag")
    shown = [({name: value for name, value in s.labels.items() if value}, s.value) for s in family.samples]
    assert shown == [
        ({"job": "job"}, 1.0),
        ({"job": "job", "operator": "read-1", "subtask": "0", "split": "a-0"}, 2.0),
    ]
