"""A subtask's figures: the use of its time, and its event time.

Operators chained in one subtask run one after the other in one task: they share these figures, and each shows them
under its own name. Busy time is spent in operators, backpressured time waiting for room downstream; the rest is
idle. A wait or work that has begun and not ended counts too: a subtask that waits for minutes says so meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from streamflow.observe.registry import Metric, OperatorMetrics
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
        self._working_since: float | None = None
        self._waiting_since: float | None = None
        self._marked = (clock.monotonic(), 0.0, 0.0)
        self._seconds = {
            kind: [m.counter(f"streamflow_{kind}_seconds_total", f"Seconds spent {kind}") for m in operators]
            for kind in ("busy", "backpressured")
        }
        self._ratios = {
            kind: [
                m.gauge(f"streamflow_{kind}_ratio", f"Share of the last second or more spent {kind}")
                for m in operators
            ]
            for kind in ("busy", "backpressured", "idle")
        }
        self._watermarks = [
            m.gauge(
                "streamflow_watermark_timestamp_seconds",
                "Event time up to which this subtask has seen everything; NaN before the first record",
            )
            for m in operators
        ]
        _set(self._watermarks, nan)
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
            metrics.refreshed_by(self._refresh)

    def works(self) -> None:
        """Begins work in operators; `busy` follows."""
        self._working_since = self._clock.monotonic()

    def waits(self) -> None:
        """Begins a possible wait for room downstream; `backpressured` follows."""
        self._waiting_since = self._clock.monotonic()

    def busy(self, seconds: float) -> None:
        """Adds seconds spent in operators."""
        self._working_since = None
        self._busy += seconds
        for counter in self._seconds["busy"]:
            counter.add(seconds)
        self._note_ratios()

    def backpressured(self, seconds: float) -> None:
        """Adds seconds spent waiting for room downstream."""
        self._waiting_since = None
        self._backpressured += seconds
        for counter in self._seconds["backpressured"]:
            counter.add(seconds)

    def paused(self, seconds: float) -> None:
        """Notes the seconds that the last barrier took."""
        _set(self._pauses, seconds)

    def watermark(self, time: int) -> None:
        """Notes the watermark."""
        self._watermark = time
        if MIN_TIME < time < MAX_TIME:
            _set(self._watermarks, time / 1e6)

    def _refresh(self) -> None:
        known = MIN_TIME < self._watermark < MAX_TIME
        _set(self._lags, (self._clock.now() - self._watermark) / 1e6 if known else nan)
        self._note_ratios()

    def _note_ratios(self) -> None:
        now = self._clock.monotonic()
        since, busy_then, backpressured_then = self._marked
        if now - since < _RATIO_SECONDS:
            return
        busy = self._busy + _so_far(self._working_since, now)
        backpressured = self._backpressured + _so_far(self._waiting_since, now)
        self._marked = (now, busy, backpressured)
        shares = [max(0.0, busy - busy_then), max(0.0, backpressured - backpressured_then)]
        shares = [min(1.0, share / (now - since)) for share in shares]
        _set(self._ratios["busy"], shares[0])
        _set(self._ratios["backpressured"], shares[1])
        _set(self._ratios["idle"], max(0.0, 1.0 - sum(shares)))


def _so_far(since: float | None, now: float) -> float:
    return 0.0 if since is None else now - since


def _set(gauges: Sequence[Metric], value: float) -> None:
    for gauge in gauges:
        gauge.set(value)
