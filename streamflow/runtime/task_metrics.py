"""What a subtask tells of how it spends its time and how far event time has come.

Operators chained in one subtask run one after the other in one task: they share these figures, and each shows them
under its own name. Busy time is spent in operators, backpressured time waiting for room downstream; the rest is idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from streamflow.metrics.registry import Metric, OperatorMetrics
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["TaskMetrics"]

_RATIO_SECONDS = 1.0


class TaskMetrics:
    """The shared figures of one subtask, kept under the name of each of its operators."""

    def __init__(self, operators: Sequence[OperatorMetrics], clock: Clock) -> None:
        self._clock = clock
        self._watermark = MIN_TIME
        self._busy = 0.0
        self._backpressured = 0.0
        self._marked = (clock.monotonic(), 0.0, 0.0)
        self._seconds = {
            kind: [m.counter(f"streamflow_{kind}_seconds_total", f"Seconds spent {kind}") for m in operators]
            for kind in ("busy", "backpressured")
        }
        self._ratios = {
            kind: [
                m.gauge(f"streamflow_{kind}_ratio", f"Share of the last second spent {kind}")
                for m in operators
            ]
            for kind in ("busy", "backpressured", "idle")
        }
        self._watermarks = [
            m.gauge(
                "streamflow_watermark_timestamp_seconds",
                "Event time up to which this subtask has seen everything",
            )
            for m in operators
        ]
        self._lags = [
            m.gauge(
                "streamflow_watermark_lag_seconds",
                "Processing time minus watermark; NaN before the first and after the last",
            )
            for m in operators
        ]
        self._pauses = [
            m.gauge(
                "streamflow_barrier_pause_seconds",
                "How long the last barrier kept this subtask from its records",
            )
            for m in operators
        ]
        for metrics in operators:
            metrics.refreshed_by(self._refresh_lag)

    def busy(self, seconds: float) -> None:
        """So long has been spent in operators."""
        self._busy += seconds
        for counter in self._seconds["busy"]:
            counter.add(seconds)
        self._note_ratios()

    def backpressured(self, seconds: float) -> None:
        """So long has been spent waiting for room downstream."""
        self._backpressured += seconds
        for counter in self._seconds["backpressured"]:
            counter.add(seconds)

    def paused(self, seconds: float) -> None:
        """So long did the last barrier take."""
        _set(self._pauses, seconds)

    def watermark(self, time: int) -> None:
        """Event time has come to `time`."""
        self._watermark = time
        if MIN_TIME < time < MAX_TIME:
            _set(self._watermarks, time / 1e6)

    def _refresh_lag(self) -> None:
        known = MIN_TIME < self._watermark < MAX_TIME
        _set(self._lags, (self._clock.now() - self._watermark) / 1e6 if known else nan)

    def _note_ratios(self) -> None:
        now = self._clock.monotonic()
        since, busy, backpressured = self._marked
        if now - since < _RATIO_SECONDS:
            return
        shares = ((self._busy - busy) / (now - since), (self._backpressured - backpressured) / (now - since))
        _set(self._ratios["busy"], min(1.0, shares[0]))
        _set(self._ratios["backpressured"], min(1.0, shares[1]))
        _set(self._ratios["idle"], max(0.0, 1.0 - sum(shares)))
        self._marked = (now, self._busy, self._backpressured)


def _set(gauges: Sequence[Metric], value: float) -> None:
    for gauge in gauges:
        gauge.set(value)
