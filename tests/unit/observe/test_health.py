"""The answers of /healthz and /readyz, at each state and when the event loop is stuck."""

from __future__ import annotations

import pytest

from streamflow.observe.health import STATES, STUCK_SECONDS, Health, JobState


class _Clock:
    seconds = 100.0

    def now(self) -> int:
        return round(self.seconds * 1e6)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.mark.parametrize("state", STATES)
def test_every_state_but_failed_is_alive_and_only_running_is_ready(clock: _Clock, state: JobState) -> None:
    health = Health("delays", clock)
    health.state = state
    alive, told = health.alive()
    ready, why = health.ready()
    assert (alive, ready) == (state != "failed", state == "running")
    assert (told["job"], told["state"], told["ok"], why["ok"]) == ("delays", state, alive, ready)
    assert bool(told["reasons"]) != alive
    assert bool(why["reasons"]) != ready


def test_a_loop_that_does_not_come_back_is_neither_alive_nor_ready(clock: _Clock) -> None:
    health = Health("delays", clock)
    health.state = "running"
    clock.seconds += STUCK_SECONDS - 0.5
    assert health.alive()[0]
    clock.seconds += 1
    for well, told in (health.alive(), health.ready()):
        assert not well
        assert told["reasons"] == ["the event loop has not answered for 10 s"]
        assert told["heartbeat_seconds"] == STUCK_SECONDS + 0.5
    health.beat()
    assert health.alive()[0]
    assert health.ready()[0]


def test_why_it_failed_or_starts_again_is_told(clock: _Clock) -> None:
    health = Health("delays", clock)
    health.failure, health.state = "SinkError: no broker", "restarting"
    assert health.ready()[1]["reasons"] == ["the job is restarting after SinkError: no broker"]
    health.state = "failed"
    assert health.alive()[1]["reasons"] == ["the job has failed: SinkError: no broker"]
