"""The progress of a running job on stderr: one line that is redrawn in a terminal, a log line now and then
elsewhere; and the result of an ended one in one line.

A `Progress` gets a `JobStatus` a few times a second. The terminal's line gives way to log lines and to the job's own
output: it is wiped before and drawn again after.
"""

from __future__ import annotations

import logging
import shutil
import sys
from typing import Any, Final, Protocol, Self, TextIO

from streamflow.cli.terminal import figures
from streamflow.config import Settings
from streamflow.observe.status import CheckpointStatus, JobResult, JobStatus
from streamflow.time.clock import Clock, SystemClock

__all__ = [
    "LogLines",
    "Progress",
    "ProgressLine",
    "Silent",
    "SmoothedRate",
    "ending",
    "is_live",
    "progress_for",
    "summary",
]

_WEIGHT: Final = 0.3


class SmoothedRate:
    """An exponential mean of the reading rate; the first look counts in full."""

    def __init__(self) -> None:
        self._records = 0
        self._elapsed = 0.0
        self.current = 0.0

    def observe(self, status: JobStatus) -> float:
        """Take a look and return the rate now."""
        passed = status.elapsed - self._elapsed
        if passed > 0:
            # After a restart the count is back at that of the checkpoint.
            now = max(0, status.records_read - self._records) / passed
            self.current = now if self._elapsed == 0 else self.current + _WEIGHT * (now - self.current)
            self._records, self._elapsed = status.records_read, status.elapsed
        return self.current


_LOG: Final = logging.getLogger("streamflow.progress")
_WIPE: Final = "\r\x1b[2K"
_LOG_EVERY: Final = 5.0


class Progress(Protocol):
    """Shows a job while it runs; a context that cleans up after itself."""

    def update(self, status: JobStatus) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def is_live(stream: TextIO, settings: Settings, *, quiet: bool) -> bool:
    """Whether a redrawn line suits the stream and the log settings."""
    return not quiet and settings.log_format == "text" and stream.isatty()


def progress_for(stream: TextIO, *, quiet: bool, live: bool) -> Progress:
    """The way to show progress that suits the stream."""
    if quiet:
        return Silent()
    return ProgressLine(stream, SystemClock()) if live else LogLines(SystemClock())


def summary(status: JobStatus, rate: float, now: int) -> str:
    """A status in one line: read, rate, watermark and its lag, written, late, the last checkpoint, restarts, and the
    busiest operator."""
    parts = [f"{figures.count(status.records_read)} read", figures.rate(rate)]
    if status.watermark is not None:
        lag = figures.span((now - status.watermark) / 1e6)
        parts.append(f"watermark {figures.moment(status.watermark)} ({lag} behind)")
    parts.append(f"{figures.count(status.records_written)} written")
    if late := sum(each.late_dropped for each in status.operators):
        parts.append(f"{figures.count(late)} late")
    if errors := sum(each.errors for each in status.operators):
        parts.append(f"{figures.count(errors)} bad")
    if status.checkpoint is not None:
        parts.append(_checkpoint(status.checkpoint))
    if status.restarts:
        parts.append(figures.restarts(status.restarts))
    if busiest := max(status.operators, key=lambda each: each.busy, default=None):
        parts.append(f"{busiest.operator} {busiest.busy:.0%} busy")
    return f"{status.job}: " + " · ".join(parts)


def _checkpoint(checkpoint: CheckpointStatus) -> str:
    """The last checkpoint's number, age and size, and the number of failed ones."""
    failed = f", {figures.count(checkpoint.failed)} failed" if checkpoint.failed else ""
    if checkpoint.number is None:
        return f"no checkpoint yet{failed}"
    size = figures.size(checkpoint.nbytes)
    return f"checkpoint {checkpoint.number} ({figures.span(checkpoint.age)} ago, {size}{failed})"


class Silent:
    """Shows nothing."""

    def update(self, status: JobStatus) -> None:
        """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


class LogLines:
    """A log line every few seconds of the job's own time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rate = SmoothedRate()
        self._due = _LOG_EVERY

    def update(self, status: JobStatus) -> None:
        if status.elapsed < self._due:
            return
        self._due = status.elapsed + _LOG_EVERY
        _LOG.info(summary(status, self._rate.observe(status), self._clock.now()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


class ProgressLine:
    """One line at the bottom of a terminal; other text goes above it."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._rate = SmoothedRate()
        self._drawn = False
        self._held = False
        self._replaced: dict[str, TextIO] = {}

    def update(self, status: JobStatus) -> None:
        line = summary(status, self._rate.observe(status), self._clock.now())
        if not self._held:
            width = shutil.get_terminal_size().columns - 1
            shown = line if len(line) <= width else line[: width - 1] + "…"
            self._stream.write(f"{_WIPE}{shown}")
            self._stream.flush()
            self._drawn = True

    def wipe(self, *, until_line_end: bool = False) -> None:
        """Removes the line; `until_line_end` keeps it away: the job has printed part of a line."""
        if self._drawn:
            self._stream.write(_WIPE)
            self._stream.flush()
            self._drawn = False
        self._held = until_line_end

    def __enter__(self) -> Self:
        for name in ("stdout", "stderr"):
            stream: TextIO = getattr(sys, name)
            if stream.isatty():
                self._replaced[name] = stream
                setattr(sys, name, _Above(stream, self))
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()
        for name, stream in self._replaced.items():
            setattr(sys, name, stream)
        self._replaced.clear()


class _Above:
    """A stream to the terminal that removes the progress line before each write."""

    def __init__(self, stream: TextIO, line: ProgressLine) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        if text:
            self._line.wipe(until_line_end=not text.endswith("\n"))
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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
        (result.duplicates, "duplicates"),
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
