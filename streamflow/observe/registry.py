"""Metric handles: plain numbers that the runtime always keeps and an exporter reads on demand.

Adding is cheap and safe from any thread; nothing here knows Prometheus. Names follow Prometheus' conventions (base
units, `_total` on counters) with Flink's notions; labels are `operator` and `subtask`, or none for the whole job, and
if one handle is not enough a few more (`split`); never a record's content.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, local
from typing import Final, Literal

__all__ = [
    "NO_METRICS",
    "Counted",
    "Counts",
    "Metric",
    "Metrics",
    "MetricsRegistry",
    "OperatorMetrics",
    "add_counted",
    "added",
    "counted_later",
    "counts_of",
]

_Key = tuple[tuple[str, str], ...]
_THREAD: Final = local()
_REPLAYED: Final = (
    "streamflow_records_",
    "streamflow_bytes_",
    "streamflow_late_records_",
    "streamflow_record_errors_",
    "streamflow_future_events_",
)


@dataclass(slots=True)
class Metric:
    """One number with its name and labels. `add` for counters, `set` for gauges."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: dict[str, str]
    value: float = 0.0
    reached: float = 0.0
    """The largest value before a restart: scrapes see no lower value while records are counted again."""
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, amount: float = 1) -> None:
        later: Counted | None = getattr(_THREAD, "later", None)
        if later is not None:
            later.append((self, amount))
            return
        # Threads count too, and += is not atomic. Called once a batch, never once a record.
        with self._lock:
            self.value += amount

    def roll_back(self, value: float) -> None:
        """Sets the counter back to `value`, its count at a checkpoint."""
        self.reached, self.value = max(self.reached, self.value), value

    @property
    def exported(self) -> float:
        """The value that a scrape sees: a counter never goes down."""
        return max(self.value, self.reached) if self.kind == "counter" else self.value

    def set(self, value: float) -> None:
        self.value = value


Counted = list[tuple[Metric, float]]
"""Numbers still to be added, each with its metric."""


@contextmanager
def counted_later(into: Counted | None = None) -> Generator[Counted]:
    """Collects this thread's additions to metrics instead of adding them (in `into`, if given): for work that is done
    ahead of its turn, or may be abandoned."""
    before: Counted | None = getattr(_THREAD, "later", None)
    _THREAD.later = later = [] if into is None else into
    try:
        yield later
    finally:
        _THREAD.later = before


def add_counted(counted: Iterable[tuple[Metric, float]]) -> None:
    """Adds the numbers that `counted_later` collected."""
    for metric, amount in counted:
        metric.add(amount)


class Metrics:
    """Handles that share labels, made on first use; each name may have several series, distinguished by further
    labels.

    >>> metrics = Metrics({"operator": "read-1", "subtask": "0"})
    >>> metrics.gauge("streamflow_lag_records", "Records behind", {"split": "flights-0"}).set(7)
    >>> metrics.gauge("streamflow_lag_records", "Records behind", {"split": "flights-1"}).set(2)
    >>> metrics.value_of("streamflow_lag_records")
    9.0
    >>> metrics.remove("streamflow_lag_records", {"split": "flights-1"})
    >>> [metric.labels["split"] for metric in metrics]
    ['flights-0']
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._metrics: dict[str, dict[_Key, Metric]] = {}
        self._refresh: Callable[[], None] | None = None

    def counter(self, name: str, help: str, labels: Mapping[str, str] | None = None) -> Metric:
        """The counter with this name and these labels beside the shared ones."""
        return self._handle(name, help, "counter", labels)

    def gauge(self, name: str, help: str, labels: Mapping[str, str] | None = None) -> Metric:
        """The gauge with this name and these labels beside the shared ones."""
        return self._handle(name, help, "gauge", labels)

    def remove(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Removes one series: its split has ended, or is held elsewhere now. Does nothing if there is none.

        A handle used after that has no effect; ask for a new one.
        """
        self._metrics.get(name, {}).pop(_key(labels), None)

    def discard(self, metric: Metric) -> None:
        """Removes one series by its handle; does nothing if it has been removed, or made again since."""
        own = {name: value for name, value in metric.labels.items() if name not in self._labels}
        series = self._metrics.get(metric.name, {})
        if series.get(_key(own)) is metric:
            del series[_key(own)]

    def refreshed_by(self, refresh: Callable[[], None]) -> None:
        """Calls `refresh` before the metrics are read, for gauges that change without an event (a lag). Replaces an
        earlier one."""
        self._refresh = refresh

    @property
    def refresh(self) -> Callable[[], None] | None:
        """The function given to `refreshed_by`; None if there is none."""
        return self._refresh

    @property
    def series(self) -> Iterator[Metric]:
        """All of them as they were refreshed last."""
        return (metric for each in list(self._metrics.values()) for metric in list(each.values()))

    def value_of(self, name: str) -> float:
        """The present value of the metric of that name, summed over its series; 0 if there is none."""
        if self._refresh is not None:
            self._refresh()
        return sum((metric.value for metric in list(self._metrics.get(name, {}).values())), 0.0)

    @property
    def replayed(self) -> list[Metric]:
        """The counters of records, which count again when records are read again after a restart."""
        series = [metric for each in list(self._metrics.values()) for metric in list(each.values())]
        return [metric for metric in series if metric.kind == "counter" and metric.name.startswith(_REPLAYED)]

    def __iter__(self) -> Iterator[Metric]:
        if self._refresh is not None:
            self._refresh()
        return self.series

    def _handle(
        self, name: str, help: str, kind: Literal["counter", "gauge"], labels: Mapping[str, str] | None
    ) -> Metric:
        series, key = self._metrics.setdefault(name, {}), _key(labels)
        found = series.get(key)
        if found is not None:
            return found
        return series.setdefault(key, Metric(name, help, kind, {**self._labels, **(labels or {})}))


def _key(labels: Mapping[str, str] | None) -> _Key:
    return tuple(sorted(labels.items())) if labels else ()


class OperatorMetrics(Metrics):
    """The handles of one operator in one subtask.

    >>> metrics = OperatorMetrics("window-1", 0)
    >>> metrics.late_dropped.add(3)
    >>> metrics.late_dropped.value
    3.0
    """

    def __init__(self, operator: str, subtask: int) -> None:
        super().__init__({"operator": operator, "subtask": str(subtask)})
        self.at = operator, subtask
        self.records_in = self.counter("streamflow_records_in_total", "Records taken in")
        self.records_out = self.counter("streamflow_records_out_total", "Records put out")
        self.bytes_in = self.counter("streamflow_bytes_in_total", "Bytes taken in")
        self.bytes_out = self.counter("streamflow_bytes_out_total", "Bytes put out")
        self.late = self.counter(
            "streamflow_late_records_total",
            "Records late for all of their windows that went to the late output",
        )
        self.late_dropped = self.counter(
            "streamflow_late_records_dropped_total",
            "Records late for all of their windows that nothing else took",
        )
        self.errors = self.counter(
            "streamflow_record_errors_total", "Records that could not be decoded or whose function raised"
        )


Counts = Mapping[tuple[str, int], Mapping[tuple[str, _Key], float]]
"""Numbers of records by (operator, subtask), then by metric name and labels."""


def counts_of(metrics: Metrics) -> Mapping[tuple[str, _Key], float]:
    """The present values of an operator's counters of records."""
    return {_identity(metric): metric.value for metric in metrics.replayed}


def added(counts: Counts, more: Counts) -> Counts:
    """The sum of two numbers of records, series by series.

    >>> added({("map-1", 0): {("n", ()): 2.0}}, {("map-1", 0): {("n", ()): 3.0}, ("map-1", 1): {("n", ()): 1.0}})
    {('map-1', 0): {('n', ()): 5.0}, ('map-1', 1): {('n', ()): 1.0}}
    """
    total = {at: dict(values) for at, values in counts.items()}
    for at, values in more.items():
        into = total.setdefault(at, {})
        for series, value in values.items():
            into[series] = into.get(series, 0.0) + value
    return total


def _identity(metric: Metric) -> tuple[str, _Key]:
    return metric.name, _key(metric.labels)


@dataclass(slots=True)
class MetricsRegistry:
    """All metrics of one job run; `whole` are those of the job as a whole."""

    job: str = "job"
    whole: Metrics = field(default_factory=lambda: Metrics({}))
    operators: dict[tuple[str, int], OperatorMetrics] = field(
        default_factory=dict[tuple[str, int], OperatorMetrics]
    )
    _subtasks: dict[str, list[OperatorMetrics]] = field(default_factory=dict[str, list[OperatorMetrics]])

    def operator(self, operator: str, subtask: int) -> OperatorMetrics:
        """The handles of one operator in one subtask, made on first use."""
        key = (operator, subtask)
        if key not in self.operators:
            self.operators[key] = made = OperatorMetrics(operator, subtask)
            self._subtasks.setdefault(operator, []).append(made)
        return self.operators[key]

    def subtasks(self, operator: str) -> list[OperatorMetrics]:
        """The handles of one operator in each of its subtasks."""
        return list(self._subtasks.get(operator, ()))

    @property
    def counts(self) -> Counts:
        """The numbers of records counted so far."""
        return {at: counts_of(metrics) for at, metrics in list(self.operators.items())}

    def roll_back(self, counts: Counts) -> None:
        """Sets the counters back to `counts`; to 0 if it does not name them."""
        for at, metrics in list(self.operators.items()):
            known = counts.get(at, {})
            for metric in metrics.replayed:
                metric.roll_back(known.get(_identity(metric), 0.0))

    def refresh(self) -> None:
        """Bring the gauges up to now that move although nothing happens: what operators share, once."""
        metrics = [self.whole, *list(self.operators.values())]
        for refresh in dict.fromkeys(each.refresh for each in metrics if each.refresh is not None):
            refresh()

    def __iter__(self) -> Iterator[Metric]:
        self.refresh()
        yield from self.whole.series
        for metrics in list(self.operators.values()):
            yield from metrics.series

    def total(self, name: str, operator: str | None = None) -> float:
        """The sum of a metric over subtasks, of one operator or of all."""
        if operator is None:
            return sum(metric.value for metric in self if metric.name == name)
        return sum(metrics.value_of(name) for metrics in self.subtasks(operator))

    def totals(self, operator: str) -> dict[str, float]:
        """Every metric of an operator that has a series, summed over them, as they were refreshed last."""
        totals: dict[str, float] = {}
        for metrics in self.subtasks(operator):
            for metric in metrics.series:
                totals[metric.name] = totals.get(metric.name, 0.0) + metric.value
        return totals


NO_METRICS: Final = OperatorMetrics("none", 0)
"""Handles that no exporter reads, for operators built outside of a job."""
