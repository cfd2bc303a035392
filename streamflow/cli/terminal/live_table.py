"""The live table of the demo, drawn with rich from the board and the job's status; pure: state in, picture out."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamflow.cli.terminal import figures
from streamflow.demo.board import Board
from streamflow.observe.status import JobStatus
from streamflow.time.timestamps import to_micros

__all__ = ["picture", "sparkline"]

_BEGIN: Final = to_micros("2013-01-01T05:00:00Z")
_END: Final = to_micros("2013-02-01T05:00:00Z")
_DAYS: Final = 31
_WIDEST: Final = 104
_WITHOUT_DAYS: Final = 67
"""The table's width beside the daily means, in characters."""
_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK_TOP: Final = 40.0
"""The mean delay in minutes at which a day's bar is full."""


def sparkline(values: list[float], top: float = _SPARK_TOP) -> str:
    """Values as little bars, the highest from `top` on.

    >>> sparkline([-3, 0, 20, 40, 90])
    '▁▁▅██'
    """
    return "".join(_BARS[min(max(int(value / top * len(_BARS)), 0), len(_BARS) - 1)] for value in values)


def picture(board: Board, status: JobStatus, rate: float, width: int) -> RenderableType:
    """The whole picture of the running demo. `rate` in records per second, `width` in characters."""
    delays = next((each for each in status.operators if each.operator == "delays"), None)
    watermark = None if delays is None else delays.watermark
    ended = delays is not None and delays.ended
    done = (_END if ended else min(max(watermark or 0, _BEGIN), _END)) - _BEGIN
    width = min(width, _WIDEST)
    return Panel(
        Group(
            ProgressBar(total=_END - _BEGIN, completed=done, complete_style="cyan", finished_style="cyan"),
            Text("\n"),
            _table(board, days=min(_DAYS, max(width - _WITHOUT_DAYS, 0))),
            Text(),
            _footer(board, status, rate, figures.moment(watermark, ended=ended)),
        ),
        title="[bold]January 2013, departures from New York[/]",
        subtitle=f"{status.mode} · windows of 1 h every 10 min · event time = actual departure",
        border_style="dim",
        padding=(1, 2),
        width=width,
    )


def _table(board: Board, days: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("airport", style="bold", no_wrap=True)
    table.add_column("hour until", no_wrap=True, min_width=12)
    for name, width in (("flights", 7), ("cancelled", 9), ("mean", 7), ("worst", 7)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    if days:
        table.add_column("daily mean", no_wrap=True, min_width=days, style="cyan")
    for origin, now in sorted(board.airports.items()):
        pane = now.newest
        cells: list[str | Text] = [
            origin,
            f"{pane['window_end']:%d %b %H:%M}",
            str(pane["flights"]),
            str(pane["cancelled"] or "–"),
            _minutes(pane["mean_delay"]),
            _minutes(pane["worst"]),
        ]
        table.add_row(*cells, *([sparkline(now.daily_means()[-days:])] if days else []))
    if not board.airports:
        table.add_row("–", "waiting …")
    return table


def _minutes(value: float | None) -> Text:
    if value is None:
        return Text("–")
    style = "green" if value < 15 else "yellow" if value < 45 else "bold red"
    return Text(f"{round(value)} min".replace("-", "−"), style=style)


def _footer(board: Board, status: JobStatus, rate: float, watermark: str) -> Table:
    late = sum(each.late_dropped for each in status.operators)
    grid = Table.grid(padding=(0, 4, 0, 0))
    for row in (
        (
            ("watermark", watermark[:16]),
            ("read", figures.count(status.records_read)),
            ("rate", figures.rate(rate)),
        ),
        (
            ("windows", figures.count(board.windows)),
            ("corrected", figures.count(board.corrections)),
            ("too late", figures.count(late)),
        ),
    ):
        grid.add_row(*(Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in row))
    return grid
