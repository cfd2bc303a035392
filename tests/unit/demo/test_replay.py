"""The demo's source: slices of scheduled time, paced by the clock it is handed, resumed at a row."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamflow.demo.replay import Replay
from streamflow.operators.contract.source import SourceContext, Split
from streamflow.time.clock import SeededRandom

START = datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
MINUTES = [0, 10, 44, 45, 46, 240]


class _JumpingClock:
    """Sleeping is a jump; `slept` keeps the lengths."""

    def __init__(self) -> None:
        self.at = 100.0
        self.slept: list[float] = []

    def now(self) -> int:
        return round(self.at * 1e6)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    scheduled = [START + timedelta(minutes=minute) for minute in MINUTES]
    path = tmp_path / "flights.parquet"
    pl.DataFrame({"scheduled": scheduled, "n": range(len(MINUTES))}).write_parquet(path)
    return path


def _read(replay: Replay, clock: _JumpingClock, position: dict[str, Any] | None = None) -> list[list[int]]:
    async def run_blocking(function: Any, *args: Any) -> Any:
        return function(*args)

    async def all_of_it() -> list[list[int]]:
        context = SourceContext("read", clock, SeededRandom(1), run_blocking, batch_rows=10)
        reader = replay.reader(Split("flights"), position, context)
        slices: list[list[int]] = []
        while (fetch := await reader.fetch()) is not None:
            batch: Any = fetch.decode().batch
            slices.append(batch.frame["n"].to_list())
        await reader.close()
        return slices

    return asyncio.run(all_of_it())


def test_each_hour_of_the_schedule_is_a_slice_and_nothing_waits(flights: Path) -> None:
    clock = _JumpingClock()
    assert _read(Replay(path=flights), clock) == [[0, 1, 2], [3, 4], [5]]
    assert clock.slept == []


def test_a_slice_comes_when_its_last_flight_is_due(flights: Path) -> None:
    clock = _JumpingClock()
    _read(Replay(path=flights, speed=2.0), clock)
    assert clock.at - 100.0 == pytest.approx(4.0 / 2)
    assert clock.slept[0] == pytest.approx(44 / 60 / 2)


def test_all_at_once_for_batch(flights: Path) -> None:
    assert _read(Replay(path=flights, every=None), _JumpingClock()) == [[0, 1, 2, 3, 4, 5]]


def test_it_goes_on_where_it_was_without_waiting_for_what_is_past(flights: Path) -> None:
    clock = _JumpingClock()
    assert _read(Replay(path=flights, speed=1.0), clock, {"row": 4}) == [[4], [5]]
    assert clock.at - 100.0 == pytest.approx((240 - 46) / 60)
