"""Metrics in Prometheus' format, made from the registry's numbers at each scrape, so that a hot path pays nothing.

Names, help texts and kinds are the registry's own; each series gets the label `job` beside its own labels. On Linux
the process's own metrics come along, `process_resident_memory_bytes` and the others that all clients agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streamflow.observe.registry import Metric as Handle
from streamflow.observe.registry import MetricsRegistry

__all__ = ["MAX_SERIES", "RegistryCollector", "exposition"]

MAX_SERIES: Final = 10_000
"""The largest number of series in a scrape; the rest are counted in `streamflow_metrics_series_left_out`."""


class RegistryCollector(Collector):
    """A registry as Prometheus metric families, made again for each scrape.

    >>> registry = MetricsRegistry("demo")
    >>> registry.operator("map-1", 0).records_in.add(3)
    >>> [family.name for family in RegistryCollector(registry).collect()][:2]
    ['streamflow_records_in', 'streamflow_records_out']
    """

    def __init__(self, registry: MetricsRegistry, max_series: int = MAX_SERIES) -> None:
        self._registry = registry
        self._max_series = max_series

    def collect(self) -> Iterator[Metric]:
        families: dict[str, list[Handle]] = {}
        series = left_out = 0
        for handle in self._registry:
            if series >= self._max_series:
                left_out += 1
                continue
            series += 1
            families.setdefault(handle.name, []).append(handle)
        for handles in families.values():
            # Series of one name may have different labels; to Prometheus an empty label is a missing one.
            labels = list(dict.fromkeys(label for handle in handles for label in handle.labels))
            family = _family(handles[0], ["job", *labels])
            for handle in handles:
                values = [handle.labels.get(label, "") for label in labels]
                family.add_metric([self._registry.job, *values], handle.exported)
            yield family
        limit = GaugeMetricFamily(
            "streamflow_metrics_series_left_out",
            f"Series beyond the first {self._max_series}, which are not shown",
            labels=["job"],
        )
        limit.add_metric([self._registry.job], left_out)
        yield limit


def exposition(registry: MetricsRegistry) -> Callable[[str], tuple[str, bytes]]:
    """The answer to a scrape: takes its Accept header, gives the content type and the content."""
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(RegistryCollector(registry))
    ProcessCollector(registry=collectors)

    def answer(accept: str) -> tuple[str, bytes]:
        encode, kind = choose_encoder(accept)
        return kind, encode(collectors)

    return answer


def _family(handle: Handle, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    if handle.kind == "counter":
        # The client appends the `_total` that the registry's name has already.
        return CounterMetricFamily(handle.name.removesuffix("_total"), handle.help, labels=labels)
    return GaugeMetricFamily(handle.name, handle.help, labels=labels)
