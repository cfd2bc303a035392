"""How a running job shows on stderr: one line that is redrawn in a terminal, a log line now and then elsewhere.

A `Progress` is fed a `JobStatus` a few times a second. The terminal's line gives way to what the job itself prints:
it is wiped before and drawn again after.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any, Final, Protocol, Self, TextIO

from streamflow.cli import figures
from streamflow.cli.smoothed_rate import SmoothedRate
from streamflow.runtime.status import CheckpointStatus, JobStatus
from streamflow.time.clock import Clock, SystemClock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, format_time

__all__ = ["LogLines", "Progress", "ProgressLine", "Silent", "progress_for", "summary"]

_WIPE: Final = "\r\x1b[2K"
_LOG_EVERY: Final = 5.0


class Progress(Protocol):
    """Shows a job while it runs; a context that cleans up after itself."""

    def update(self, status: JobStatus) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def progress_for(stream: TextIO, *, quiet: bool) -> Progress:
    """The way to show progress that suits the stream."""
    if quiet:
        return Silent()
    return ProgressLine(stream, SystemClock()) if stream.isatty() else LogLines(stream, SystemClock())


def summary(status: JobStatus, rate: float, now: int) -> str:
    """A status in one line: read, rate, watermark and its lag, written, late, the last checkpoint, restarts, and the
    busiest operator."""
    parts = [f"{figures.count(status.records_read)} read", figures.rate(rate)]
    if MIN_TIME < status.watermark < MAX_TIME:
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
    """Which is the last, how old and how large it is; how many could not be taken."""
    failed = f", {figures.count(checkpoint.failed)} failed" if checkpoint.failed else ""
    if checkpoint.number is None:
        return f"no checkpoint yet{failed}"
    size = figures.size(checkpoint.nbytes)
    return f"checkpoint {checkpoint.number} ({figures.span(checkpoint.age)} ago, {size}{failed})"


class Silent:
    """Shows nothing."""

    def update(self, status: JobStatus) -> None:
        """Nothing is shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""


class LogLines:
    """A line with the time in front, every few seconds of the job's own time; the job's notes when they come."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._rate = SmoothedRate()
        self._due = _LOG_EVERY
        self._told = 0

    def update(self, status: JobStatus) -> None:
        for note in status.notes[self._told :]:
            print(f"{self._stamp()} {status.job}: {note}", file=self._stream, flush=True)
        self._told = len(status.notes)
        if status.elapsed < self._due:
            return
        self._due = status.elapsed + _LOG_EVERY
        line = summary(status, self._rate.observe(status), self._clock.now())
        print(f"{self._stamp()} {line}", file=self._stream, flush=True)

    def _stamp(self) -> str:
        return format_time(self._clock.now() // 1_000_000 * 1_000_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""


class ProgressLine:
    """One line at the bottom of a terminal, the job's notes above it."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._rate = SmoothedRate()
        self._drawn = False
        self._held = False
        self._told = 0
        self._stdout: TextIO | None = None

    def update(self, status: JobStatus) -> None:
        if not self._held and (notes := status.notes[self._told :]):
            self.wipe()
            self._stream.write("".join(f"{status.job}: {note}\n" for note in notes))
            self._told = len(status.notes)
        line = summary(status, self._rate.observe(status), self._clock.now())
        if not self._held:
            width = shutil.get_terminal_size().columns - 1
            shown = line if len(line) <= width else line[: width - 1] + "…"
            self._stream.write(f"{_WIPE}{shown}")
            self._stream.flush()
            self._drawn = True

    def wipe(self, *, until_line_end: bool = False) -> None:
        """Take the line away; `until_line_end` keeps it away: the job has printed part of a line."""
        if self._drawn:
            self._stream.write(_WIPE)
            self._stream.flush()
            self._drawn = False
        self._held = until_line_end

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            self._stdout = sys.stdout
            sys.stdout = _Above(sys.stdout, self)
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()
        if self._stdout is not None:
            sys.stdout = self._stdout
            self._stdout = None


class _Above:
    """stdout with the progress line taken away before each write."""

    def __init__(self, stream: TextIO, line: ProgressLine) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        if text:
            self._line.wipe(until_line_end=not text.endswith("\n"))
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
