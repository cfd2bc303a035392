"""The view of a running job for `streamflow status` and `streamflow top`; pure: two statuses in, a picture out.

It has the figures of the Grafana dashboard "overview": state, rates, watermarks and the splits that hold them back,
checkpoints, publications.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamflow.cli.terminal import figures
from streamflow.observe.logs import printable
from streamflow.observe.status import JobStatus, OperatorStatus
from streamflow.time.timestamps import MIN_TIME

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["facts", "overview", "rows"]

_GOOD = {"running": "green", "finished": "green", "failed": "bold red", "restarting": "bold yellow"}

_Rates = tuple[float, float]


def overview(now: JobStatus, before: JobStatus | None = None) -> RenderableType:
    """The whole picture; rates are those since `before`, an earlier status."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble(
        (printable(now.job), "bold"),
        "  ",
        (printable(now.state), _GOOD.get(now.state, "yellow")),
        f" for {figures.span(now.elapsed)} · {printable(now.mode)} · {figures.restarts(now.restarts)}",
    )
    told = Table.grid(padding=(0, 2, 0, 0))
    for name, text in facts(now):
        told.add_row(Text(name, style="dim"), Text(text))
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    columns, lines = rows(now, before)
    for name in columns:
        left = name in ("operator", "held by")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    notes = [Text(f"note: {printable(note)}", style="yellow") for note in now.notes[-3:]]
    return Group(head, told, table, *notes)


def facts(now: JobStatus) -> list[tuple[str, str]]:
    """The facts about the whole job, by name."""
    told = [("watermark", _watermark(now))]
    lags = [each.lag_records for each in now.operators if each.lag_records is not None]
    if lags:
        told.append(("log", f"{figures.count(sum(lags))} records behind"))
    last = now.checkpoint
    if last is not None:
        parts = ["none yet"]
        if last.number is not None:
            parts = [
                f"{last.number}, {figures.span(last.age)} ago",
                _took(last.duration),
                figures.size(last.nbytes),
            ]
        parts.append(f"{figures.count(last.taken)} taken, {figures.count(last.failed)} failed")
        told.append(("checkpoint", " · ".join(parts)))
    output = now.publication
    if output is not None:
        waiting = (
            f"{figures.count(output.waiting_records)} records, {figures.size(output.waiting_bytes)} waiting"
        )
        parts = (
            ["not yet"]
            if output.age is None
            else [
                f"{figures.span(output.age)} ago",
                _took(output.duration),
            ]
        )
        parts.append(f"{figures.count(output.published)} epochs, {figures.count(output.retries)} tried again")
        told.append(("publication", " · ".join([*parts, waiting])))

    def total(name: str) -> str:
        return figures.count(sum(getattr(each, name) for each in now.operators))

    passed_over = f"{total('late')} late · {total('late_dropped')} dropped · {total('errors')} bad"
    told.append(("passed over", passed_over))
    return told


def rows(now: JobStatus, before: JobStatus | None = None) -> tuple[list[str], list[list[str]]]:
    """The operators as a table; columns that are empty for all operators are left out."""
    earlier: dict[str, OperatorStatus] = {each.operator: each for each in before.operators} if before else {}
    passed = now.elapsed - before.elapsed if before else now.elapsed
    columns: dict[str, Callable[[OperatorStatus], str]] = {
        "operator": _name,
        "in": lambda each: _rate(each, earlier, passed, "records_in"),
        "out": lambda each: _rate(each, earlier, passed, "records_out"),
        "busy": lambda each: f"{each.busy:.0%}",
        "blocked": lambda each: f"{each.backpressured:.0%}",
        "behind": lambda each: _behind(each.watermark, now.time) or "–",
    }
    rare: dict[str, Callable[[OperatorStatus], str]] = {
        "held by": lambda each: printable(each.held_back_by or ""),
        "log lag": lambda each: "" if each.lag_records is None else figures.count(each.lag_records),
        "late": lambda each: _number(each.late),
        "dropped": lambda each: _number(each.late_dropped),
        "bad": lambda each: _number(each.errors),
    }
    columns |= {name: cell for name, cell in rare.items() if any(cell(each) for each in now.operators)}
    return list(columns), [[cell(each) for cell in columns.values()] for each in now.operators]


def _name(operator: OperatorStatus) -> str:
    wide = f" ×{operator.parallelism}" if operator.parallelism > 1 else ""
    return f"{printable(operator.operator)}{wide}"


def _took(seconds: float) -> str:
    return f"took {seconds * 1_000:.0f} ms" if seconds < 1 else f"took {figures.span(seconds)}"


def _watermark(now: JobStatus) -> str:
    behind = _behind(now.watermark, now.time)
    moment = figures.moment(now.watermark, ended=now.ended)
    if not behind:
        return moment
    sources = [each for each in now.operators if each.held_back_by]
    slowest = min(sources, key=lambda each: _or_none(each.watermark), default=None)
    held = "" if slowest is None else f", held back by {printable(slowest.held_back_by or '')}"
    return f"{moment}, {behind} behind{held}"


def _or_none(watermark: int | None) -> int:
    """A sort key: no watermark is smaller than any, since it holds others back most."""
    return MIN_TIME if watermark is None else watermark


def _behind(watermark: int | None, time: int) -> str:
    return figures.span((time - watermark) / 1e6) if watermark is not None and time > 0 else ""


def _rate(now: OperatorStatus, earlier: dict[str, OperatorStatus], passed: float, name: str) -> str:
    before: Any = getattr(earlier[now.operator], name) if now.operator in earlier else 0
    return figures.rate(max(0, getattr(now, name) - before) / passed) if passed > 0 else "–"


def _number(number: int) -> str:
    return figures.count(number) if number else ""
