"""The counter of duplicates."""

from __future__ import annotations

from streamflow.observe.registry import Metric, OperatorMetrics

__all__ = ["duplicates_of"]


def duplicates_of(metrics: OperatorMetrics) -> Metric:
    """The counter of records that are left out because another one of their key stands for them."""
    return metrics.counter("streamflow_records_duplicate_total", "Records left out as duplicates of others")
