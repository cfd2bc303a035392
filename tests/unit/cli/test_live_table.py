"""The demo's live table, drawn as text at the widths of a small and a large terminal."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from streamflow.cli.terminal.live_table import picture, sparkline
from streamflow.demo.board import Board, Pane
from streamflow.observe.status import JobStatus, OperatorStatus
from streamflow.time.timestamps import to_micros


def _status(watermark: int | None) -> JobStatus:
    delays = OperatorStatus("delays", "window", 1, 0, 0, 0, 3, 0, watermark, 0.0, 0.0)
    return JobStatus("january", "streaming", "running", 1.0, 1_234, 0, None, 0, (delays,))


def _board() -> Board:
    midnight = datetime(2013, 1, 10, 5, 0, tzinfo=UTC)
    board = Board()
    for day in range(20):
        start = midnight + timedelta(days=day)
        pane: Pane = {
            "origin": "EWR",
            "window_start": start,
            "window_end": start + timedelta(hours=1),
            "flights": 12,
            "cancelled": 0,
            "mean_delay": -0.4 if day == 19 else 50.0,
            "worst": 47,
        }
        asyncio.run(board.show([pane]))
    return board


def _drawn(board: Board, watermark: int, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    console.print(picture(board, _status(watermark), 45_678.0, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_the_newest_window_and_the_figures() -> None:
    text = _drawn(_board(), to_micros("2013-01-29T02:00:00Z"), 104)
    [row] = [line for line in text.splitlines() if "EWR" in line]
    assert row.split()[1:] == [
        "EWR",
        "29",
        "Jan",
        "06:00",
        "12",
        "–",
        "0",
        "min",
        "47",
        "min",
        "█" * 19 + "▁",
        "│",
    ]
    for figure in (
        "watermark 2013-01-29 02:00",
        "read 1,234",
        "rate 45.7 k/s",
        "windows 20",
        "corrected 0",
        "too late 3",
    ):
        assert figure in text


@pytest.mark.parametrize("width", [60, 80, 104, 300])
def test_it_fits_the_terminal(width: int) -> None:
    lines = _drawn(_board(), to_micros("2013-01-29T02:00:00Z"), width).splitlines()
    assert max(len(line) for line in lines) == min(width, 104)
    assert len(lines) == (11 if width >= 80 else 12)


def test_before_the_first_window_there_is_something_to_see() -> None:
    text = _drawn(Board(), None, 80)
    assert "waiting" in text
    assert "watermark –" in text


def test_bars_end_at_the_top_and_at_the_bottom() -> None:
    assert sparkline([-10.0, 0.0, 39.9, 1_000.0]) == "▁▁██"
