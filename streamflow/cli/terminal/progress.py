"""The progress of a running job on stderr: one line that is redrawn in a terminal, a log line now and then
elsewhere.

A `Progress` gets a `JobStatus` a few times a second. The terminal's line gives way to log lines and to the job's own
output: it is wiped before and drawn again after.
"""

from __future__ import annotations

import logging
import shutil
import sys
from typing import Any, Final, Protocol, Self, TextIO

from streamflow.cli.terminal import figures
from streamflow.cli.terminal.smoothed_rate import SmoothedRate
from streamflow.config import Settings
from streamflow.observe.status import CheckpointStatus, JobStatus
from streamflow.time.clock import Clock, SystemClock

__all__ = ["LogLines", "Progress", "ProgressLine", "Silent", "is_live", "progress_for", "summary"]

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
