"""Metric handles: plain numbers that the runtime always keeps, and that an exporter reads when it is asked.

Adding is cheap and safe from any thread; nothing here knows Prometheus. Names follow Prometheus' conventions (base
units, `_total` on counters) with Flink's notions; labels are `operator` and `subtask`, or none for what concerns the
whole job; never a record's content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Literal

__all__ = ["NO_METRICS", "Metric", "Metrics", "MetricsRegistry", "OperatorMetrics"]


@dataclass(slots=True)
class Metric:
    """One number with its name and labels. `add` for counters, `set` for gauges."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: dict[str, str]
    value: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, amount: float = 1) -> None:
        # Read-ahead threads count too, and += is not atomic. Once a batch, never once a record.
        with self._lock:
            self.value += amount

    def set(self, value: float) -> None:
        self.value = value


class Metrics:
    """Handles with the same labels, made when first asked for."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._metrics: dict[str, Metric] = {}
        self._refresh: Callable[[], None] | None = None

    def counter(self, name: str, help: str) -> Metric:
        """The counter of that name."""
        return self._metrics.setdefault(name, Metric(name, help, "counter", self._labels))

    def gauge(self, name: str, help: str) -> Metric:
        """The gauge of that name."""
        return self._metrics.setdefault(name, Metric(name, help, "gauge", self._labels))

    def refreshed_by(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before the metrics are read: for gauges that move although nothing happens (a lag). Takes the
        place of the one before it."""
        self._refresh = refresh

    def value_of(self, name: str) -> float:
        """What the metric of that name says now; 0 where there is none."""
        if self._refresh is not None:
            self._refresh()
        metric = self._metrics.get(name)
        return 0.0 if metric is None else metric.value

    def __iter__(self) -> Iterator[Metric]:
        if self._refresh is not None:
            self._refresh()
        return iter(list(self._metrics.values()))


class OperatorMetrics(Metrics):
    """The handles of one operator in one subtask.

    >>> metrics = OperatorMetrics("window-1", 0)
    >>> metrics.late_dropped.add(3)
    >>> metrics.late_dropped.value
    3.0
    """

    def __init__(self, operator: str, subtask: int) -> None:
        super().__init__({"operator": operator, "subtask": str(subtask)})
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


@dataclass(slots=True)
class MetricsRegistry:
    """All metrics of one job run; `whole` are those that no single operator has."""

    job: str = "job"
    whole: Metrics = field(default_factory=lambda: Metrics({}))
    operators: dict[tuple[str, int], OperatorMetrics] = field(
        default_factory=dict[tuple[str, int], OperatorMetrics]
    )

    def operator(self, operator: str, subtask: int) -> OperatorMetrics:
        """The handles of one operator in one subtask (made when first asked for)."""
        key = (operator, subtask)
        if key not in self.operators:
            self.operators[key] = OperatorMetrics(operator, subtask)
        return self.operators[key]

    def __iter__(self) -> Iterator[Metric]:
        yield from self.whole
        for metrics in list(self.operators.values()):
            yield from metrics

    def total(self, name: str, operator: str | None = None) -> float:
        """A metric summed over subtasks, of one operator or of all."""
        if operator is None:
            return sum(metric.value for metric in self if metric.name == name)
        # Asked for every operator and figure of a status, so it looks at no other operator's.
        return sum(
            metrics.value_of(name) for (id, _), metrics in list(self.operators.items()) if id == operator
        )


NO_METRICS: Final = OperatorMetrics("none", 0)
"""Handles that nothing reads, for operators built outside of a job."""
