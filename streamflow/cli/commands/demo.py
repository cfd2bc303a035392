"""`streamflow demo`: the bundled job, live in a terminal, then a table and a chart of January's results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamflow.cli.drive import Outcome, drive
from streamflow.cli.parameters import Debug, Json
from streamflow.cli.terminal import figures
from streamflow.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from streamflow.demo.board import Board
    from streamflow.demo.job import Demo
    from streamflow.demo.results import Results
    from streamflow.observe.status import JobStatus

__all__ = ["demo"]

_HOURS_PER_SECOND: Final = 30.0
_WORST_DAYS: Final = 3


def demo(
    *,
    mode: str = "streaming",
    speed: float | None = None,
    out: Path = Path("streamflow-demo"),
    quiet: bool = False,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Run the bundled job on real flight delays, live.

    Parameters
    ----------
    mode
        streaming (also for auto), micro-batch or batch; the result is the same.
    speed
        Hours of January per second; 0 for as fast as possible. By default 30 in a terminal, else 0.
    out
        The folder for the chart and the results [default: streamflow-demo].
    quiet
        Show nothing while it runs, and no table at the end.
    """
    if speed is not None and not 0 <= speed < float("inf"):
        raise ConfigError(
            f"--speed is {speed:g}", hint="give hours of January per second, like 30; 0: no pacing"
        )
    live = sys.stderr.isatty() and not quiet
    pace = speed or None if speed is not None or not live or mode == "batch" else _HOURS_PER_SECOND

    from streamflow.demo.board import Board
    from streamflow.demo.job import build
    from streamflow.demo.replay import Replay
    from streamflow.demo.results import results

    _prepare(out)
    board = Board()
    flights = Replay(speed=pace, every=None if mode == "batch" else "1h")
    january = build(flights, board if live else None)
    outcome = _run(january, "streaming" if mode == "auto" else mode, board if live else None)
    came_to = results(january.delays.frame(), january.aircraft.frame())
    files = _write(came_to, out)
    if json_:
        print(json.dumps(_as_json(came_to, outcome, files)))
    if not quiet:
        _show(came_to, outcome, files)
    return outcome.exit_code


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"cannot write to {out}: {error.strerror}", hint="choose another folder with --out"
        ) from error


def _run(january: Demo, mode: str, board: Board | None) -> Outcome:
    arguments = {
        "mode": mode,
        "micro_batch_interval": "200ms",
        "checkpoint_interval": "1s",
        "state_backend": "memory",
    }
    if board is None:
        return drive(january.job, arguments, lambda _: None)
    from rich.console import Console
    from rich.live import Live

    from streamflow.cli.terminal.live_table import picture
    from streamflow.cli.terminal.progress import SmoothedRate

    rate = SmoothedRate()
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def watch(status: JobStatus) -> None:
            live.update(picture(board, status, rate.observe(status), console.width), refresh=True)

        return drive(january.job, arguments, watch)


def _write(came_to: Results, out: Path) -> dict[str, Path]:
    """Writes the chart and the two results as files; writes nothing if the run was stopped before a day had ended."""
    files: dict[str, Path] = {}
    tables = {"delays": came_to.windows, "aircraft": came_to.aircraft}
    try:
        for name, frame in tables.items():
            files[name] = out / f"{name}.parquet"
            frame.write_parquet(files[name])
        if not came_to.daily.is_empty():
            files["chart"] = out / "delays.svg"
            files["chart"].write_text(_chart(came_to), encoding="utf-8")
    except OSError as error:
        raise SinkError(
            f"cannot write to {out}: {error.strerror}", hint="choose another folder with --out"
        ) from error
    return files


def _chart(came_to: Results) -> str:
    from streamflow.demo.chart import Mark, line_chart

    series = {
        str(origin): list(lines.select("day", "mean_delay").iter_rows())
        for (origin,), lines in came_to.daily.group_by("origin", maintain_order=True)
    }
    marks = [
        Mark(day, f"{day:%a} {day.day}: {mean:.0f} min") for day, mean in came_to.worst_days(_WORST_DAYS)
    ]
    flights = figures.count(int(came_to.airports["flights"].sum()))
    return line_chart(
        series,
        title="Departure delays in January 2013",
        subtitle=f"Mean delay by airport and day of actual departure, New York; {flights} flights",
        unit="minutes",
        marks=marks,
    )


def _as_json(came_to: Results, outcome: Outcome, files: dict[str, Path]) -> dict[str, object]:
    airports = came_to.airports
    return {
        "digest": came_to.digest,
        "windows": came_to.windows.height,
        "corrections": came_to.corrections,
        "aircraft_days": came_to.aircraft.height,
        "airports": airports.with_columns(
            airports["worst_hour"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        ).to_dicts(),
        "files": {name: str(path) for name, path in files.items()},
        "job": outcome.result.as_dict(),
    }


def _show(came_to: Results, outcome: Outcome, files: dict[str, Path]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    result = outcome.result
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("airport", style="bold", no_wrap=True)
    for name in ("flights", "cancelled", "mean", "longest", "worst hour, UTC", "mean then"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in came_to.airports.iter_rows(named=True):
        then = row["worst_hour"]
        table.add_row(
            row["origin"],
            figures.count(row["flights"]),
            figures.count(row["cancelled"]),
            "–" if row["mean_delay"] is None else f"{row['mean_delay']:.1f} min",
            "–" if row["worst"] is None else figures.span(row["worst"] * 60),
            "–" if then is None else f"{then.day} {then:%b %H:%M}",
            "–" if then is None else f"{row['worst_hour_delay']:.0f} min",
        )
    same = "" if result.stopped else ", the same in every mode"
    console = Console(highlight=False, soft_wrap=True)
    stopped = " (stopped: the following is not all of January)" if result.stopped else ""
    console.print(f"\nDeparture delays from New York, January 2013{stopped}")
    console.print(table)
    busiest = came_to.aircraft.sort(["departures", "miles"], descending=True).head(1).to_dicts()
    for row in busiest:
        hours = figures.span((row["window_end"] - row["window_start"]).total_seconds() - 8 * 3600)
        console.print(
            f"Aircraft days (sessions, gap 8 h): {figures.count(came_to.aircraft.height)}; the busiest: "
            f"{row['tailnum']}, {row['departures']} departures in {hours}, {figures.count(row['miles'])} miles."
        )
    console.print(
        f"Windows: {figures.count(came_to.windows.height)}, corrected {figures.count(came_to.corrections)} times by "
        f"flights more than 4 h behind; dropped as too late: {figures.count(result.dropped)} flights."
    )
    console.print(f"{result.mode}, {result.duration:.2f} s. Digest of the results: {came_to.digest}{same}.")
    if "chart" in files:
        console.print(f"Chart: {files['chart']}")
