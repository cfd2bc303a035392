"""How a subtask's time is divided: also while it idles, and while something goes on that has not ended."""

from __future__ import annotations

from streamflow.observe.registry import OperatorMetrics
from streamflow.runtime.task.metrics import TaskMetrics


class _Clock:
    seconds = 0.0

    def now(self) -> int:
        return round(self.seconds * 1e6)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def shares(metrics: OperatorMetrics) -> tuple[float, float, float]:
    busy, blocked, idle = (metrics.value_of(f"streamflow_{kind}_ratio") for kind in KINDS)
    return round(busy, 3), round(blocked, 3), round(idle, 3)


KINDS = ("busy", "backpressured", "idle")


def made() -> tuple[_Clock, OperatorMetrics, TaskMetrics]:
    clock, metrics = _Clock(), OperatorMetrics("count", 0)
    return clock, metrics, TaskMetrics([metrics], clock)


def test_time_is_divided_into_busy_blocked_and_idle() -> None:
    clock, metrics, task = made()
    clock.seconds = 1.0
    task.busy(0.25)
    assert shares(metrics) == (0.25, 0.0, 0.75)
    clock.seconds = 2.0
    task.backpressured(0.5)
    assert shares(metrics) == (0.0, 0.5, 0.5)


def test_one_that_has_nothing_more_to_do_is_idle_and_says_so() -> None:
    clock, metrics, task = made()
    clock.seconds = 1.0
    task.busy(0.9)
    assert shares(metrics)[0] == 0.9
    clock.seconds = 11.0
    assert shares(metrics) == (0.0, 0.0, 1.0)


def test_what_goes_on_for_long_counts_meanwhile_and_once() -> None:
    clock, metrics, task = made()
    task.waits()
    clock.seconds = 4.0
    assert shares(metrics) == (0.0, 1.0, 0.0)
    clock.seconds = 6.0
    task.backpressured(6.0)
    assert shares(metrics) == (0.0, 1.0, 0.0)
    assert metrics.value_of("streamflow_backpressured_seconds_total") == 6.0
    task.works()
    clock.seconds = 8.0
    assert shares(metrics) == (1.0, 0.0, 0.0)
    task.busy(2.0)
    clock.seconds = 10.0
    assert shares(metrics) == (0.0, 0.0, 1.0)
