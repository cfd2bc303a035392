"""The result of an ended job in one line."""

from __future__ import annotations

from streamflow.cli.terminal import figures
from streamflow.observe.status import JobResult

__all__ = ["ending"]


def ending(result: JobResult, *, interrupted: bool = False) -> str:
    """The line: records read and written, the time, and records late, bad or in no window.

    >>> ending(JobResult("delays", "batch", 0.5, {}, {}))
    'delays done (batch): 0 read · 0 written · 0.50 s · 0/s'
    """
    read = sum(each.records_in for each in result.operators if each.kind == "read")
    written = sum(each.records_in for each in result.operators if each.kind == "write")
    how = "interrupted" if interrupted else "stopped" if result.stopped else "done"
    rate = figures.rate(read / result.duration) if result.duration > 0 else "–"
    parts = [
        f"{figures.count(read)} read",
        f"{figures.count(written)} written",
        f"{result.duration:.2f} s",
        rate,
    ]
    for number, what in (
        (result.late, "late"),
        (result.dropped, "dropped as too late"),
        (result.in_no_window, "in no window"),
        (result.errors, "bad"),
    ):
        if number:
            parts.append(f"{figures.count(number)} {what}")
    if result.checkpoint is not None:
        last, failed = result.checkpoint.number, result.checkpoint.failed
        parts.append("no checkpoint" if last is None else f"checkpoint {last}")
        if failed:
            parts.append(f"{figures.count(failed)} checkpoints failed")
    if result.restarts:
        parts.append(figures.restarts(result.restarts))
    return f"{result.job} {how} ({result.mode}): " + " · ".join(parts)
