"""The live table of the demo, drawn with rich from the board and the job's status; pure: state in, picture out."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamflow.cli import figures
from streamflow.demo.board import AirportNow, Board
from streamflow.runtime.status import JobStatus
from streamflow.time.timestamps import MIN_TIME, to_micros

__all__ = ["picture", "sparkline"]

_BEGIN: Final = to_micros("2013-01-01T05:00:00Z")
_END: Final = to_micros("2013-02-01T05:00:00Z")
_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK_TOP: Final = 40.0
"""The mean delay in minutes at which a day's bar is full."""


def sparkline(values: list[float], top: float = _SPARK_TOP) -> str:
    """
    >>> sparkline([-3, 0, 20, 40, 90])
    '▁▁▅██'
    """
    return "".join(_BARS[min(max(int(value / top * len(_BARS)), 0), len(_BARS) - 1)] for value in values)


def picture(board: Board, status: JobStatus, rate: float) -> RenderableType:
    """Everything the demo shows while it runs. `rate` in records per second."""
    done = min(max(status.watermark, _BEGIN), _END) - _BEGIN if status.watermark > MIN_TIME else 0
    return Panel(
        Group(
            ProgressBar(
                total=_END - _BEGIN, completed=done, width=None, complete_style="cyan", finished_style="cyan"
            ),
            Text(),
            _table(board),
            Text(),
            _footer(board, status, rate),
        ),
        title="[bold]January 2013, departures from New York[/]",
        subtitle=f"{status.mode} · sliding 1 h every 10 min · event time = actual departure",
        border_style="dim",
        padding=(1, 2),
        width=96,
    )


def _table(board: Board) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("airport", style="bold", no_wrap=True)
    table.add_column("last hour closed", no_wrap=True)
    for name in ("flights", "cancelled", "mean delay", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("daily mean", no_wrap=True, min_width=31, style="cyan")
    for origin, now in sorted(board.airports.items()):
        table.add_row(
            origin,
            figures.moment(now.window_end)[5:16],
            str(now.flights),
            str(now.cancelled) if now.cancelled else "–",
            _minutes(now.mean_delay),
            _minutes(now.worst),
            _days(now),
        )
    if not board.airports:
        table.add_row("waiting for the first window to close …")
    return table


def _days(now: AirportNow) -> str:
    return sparkline([total / flights for _, (total, flights) in sorted(now.days.items()) if flights])


def _minutes(value: float | None) -> Text:
    if value is None:
        return Text("–")
    style = "green" if value < 15 else "yellow" if value < 45 else "bold red"
    return Text(f"{value:.0f} min".replace("-", "−"), style=style)


def _footer(board: Board, status: JobStatus, rate: float) -> Text:
    late = sum(each.late_dropped for each in status.operators)
    parts = (
        ("read", figures.count(status.records_read)),
        ("rate", figures.rate(rate)),
        ("watermark", figures.moment(status.watermark)[:16]),
        ("windows", figures.count(board.windows)),
        ("corrected", figures.count(board.corrections)),
        ("too late", figures.count(late)),
    )
    line = Text()
    for at, (name, value) in enumerate(parts):
        line.append("   " if at else "").append(f"{name} ", style="dim").append(value, style="bold")
    return line
