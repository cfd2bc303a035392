"""Changes of a worker's metrics on the way to the coordinator's registry, whose series show the whole job.

A worker's registry begins at zero with each attempt. A series is declared once, with a number, and its changes name
the number only: differences of counters, values of gauges. So what is taken in adds up over workers and attempts; after
a restart the counters of the coordinator's registry are rolled back as those of a job in one process are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from streamflow.observe.registry import Metric, Metrics, MetricsRegistry

__all__ = ["ChangeTracker", "Changes", "Declared", "WorkerSeries"]


class Declared(msgspec.Struct, frozen=True):
    """A series by its number in one worker's attempt. `at`: its operator and subtask; None: it is of the process."""

    number: int
    at: tuple[str, int] | None
    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: dict[str, str]
    """The labels beside those of the operator and the subtask."""


class Changes(msgspec.Struct, frozen=True):
    """Everything that has changed since the last time: new series, amounts to add to counters and values of gauges by
    the numbers of their series, and the numbers of series that are gone."""

    declared: tuple[Declared, ...] = ()
    values: dict[int, float] = {}
    removed: tuple[int, ...] = ()


@dataclass(slots=True)
class _Known:
    """A declared series as it was said last."""

    number: int
    metric: Metric
    said: float = 0.0


class ChangeTracker:
    """The changes of a worker's registry from one call to the next.

    >>> registry = MetricsRegistry()
    >>> tracker = ChangeTracker(registry)
    >>> lag = registry.whole.gauge("streamflow_lag_records", "Records behind")
    >>> lag.set(7)
    >>> tracker.changes().values, tracker.changes().values
    ({0: 7.0}, {})
    """

    def __init__(self, registry: MetricsRegistry) -> None:
        self._registry = registry
        self._known: dict[int, _Known] = {}
        """The declared series by the identity of their metrics, which are kept alive by this."""
        self._declared = 0

    def changes(self) -> Changes:
        """Everything that has changed since the last call."""
        self._registry.refresh()
        declared: list[Declared] = []
        values: dict[int, float] = {}
        gone = dict(self._known)
        operators = [(at, metrics) for at, metrics in list(self._registry.operators.items())]
        for at, metrics in ((None, self._registry.whole), *operators):
            for metric in metrics.series:
                known = gone.pop(id(metric), None)
                first = known is None
                if known is None:
                    known = self._known[id(metric)] = _Known(self._declared, metric)
                    self._declared += 1
                    declared.append(_declaration(known.number, at, metric))
                value = float(metric.value)
                if metric.kind == "counter" and value != known.said:
                    values[known.number] = value - known.said
                elif metric.kind == "gauge" and (first or not _same(value, known.said)):
                    values[known.number] = value
                known.said = value
        for identity in gone:
            del self._known[identity]
        return Changes(tuple(declared), values, tuple(known.number for known in gone.values()))


class WorkerSeries:
    """The series of one worker's attempt in the registry of the whole job. Series of the worker's process get the label
    `worker`, its number.

    >>> registry = MetricsRegistry()
    >>> series = WorkerSeries(registry, 1)
    >>> read = Declared(0, ("read-1", 1), "streamflow_records_in_total", "Records taken in", "counter", {})
    >>> series.take(Changes((read,), {0: 5.0}))
    >>> series.take(Changes(values={0: 2.0}))
    >>> registry.operator("read-1", 1).records_in.value
    7.0
    """

    def __init__(self, registry: MetricsRegistry, worker: int) -> None:
        self._registry = registry
        self._worker = worker
        self._series: dict[int, tuple[Metrics, Metric]] = {}

    def take(self, changes: Changes) -> None:
        """Takes in changes, in the order in which they were made. Those of a series that was not declared are left
        out: a figure that cannot be told is no reason to end a job."""
        # A series that is gone may have come again at once, under another number.
        for number in changes.removed:
            self._remove(number)
        for declared in changes.declared:
            self._declare(declared)
        for number, value in changes.values.items():
            if number in self._series:
                _, metric = self._series[number]
                if metric.kind == "counter":
                    metric.add(value)
                else:
                    metric.set(value)

    def forget(self) -> None:
        """Removes the worker's gauges: its attempt is over, and the next may have them in another place. Counters
        stay."""
        for number, (_, metric) in list(self._series.items()):
            if metric.kind == "gauge":
                self._remove(number)

    def _declare(self, declared: Declared) -> None:
        labels = declared.labels
        if declared.at is None:
            metrics, labels = self._registry.whole, {**labels, "worker": str(self._worker)}
        else:
            metrics = self._registry.operator(*declared.at)
        make = metrics.counter if declared.kind == "counter" else metrics.gauge
        self._series[declared.number] = (metrics, make(declared.name, declared.help, labels))

    def _remove(self, number: int) -> None:
        found = self._series.pop(number, None)
        if found is not None:
            metrics, metric = found
            metrics.discard(metric)


def _declaration(number: int, at: tuple[str, int] | None, metric: Metric) -> Declared:
    shared = () if at is None else ("operator", "subtask")
    labels = {name: value for name, value in metric.labels.items() if name not in shared}
    return Declared(number, at, metric.name, metric.help, metric.kind, labels)


def _same(one: float, other: float) -> bool:
    """Whether two values are the same; NaN is NaN."""
    return one == other or (one != one and other != other)
