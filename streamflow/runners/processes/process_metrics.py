"""Metrics of a worker's process, which go to the coordinator with those of its subtasks and get its number there."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamflow.observe.registry import Metrics

__all__ = ["FENCED", "ProcessMetrics"]

FENCED: Final = (
    "streamflow_fenced_messages_total",
    "Messages of attempts and workers that no longer counted",
)
_STATM: Final = Path("/proc/self/statm")
_FILES: Final = Path("/proc/self/fd")


class ProcessMetrics:
    """The memory, processor time and open files of this process, and the connections that it has fenced: `fenced` gives
    their number so far."""

    def __init__(self, fenced: Callable[[], int]) -> None:
        self._fenced = fenced
        self._fenced_told = 0
        self._seconds_told = 0.0

    def tell(self, metrics: Metrics) -> None:
        """Sets the gauges, and adds to the counters what has come since the last call."""
        metrics.gauge("streamflow_worker_resident_memory_bytes", "Resident memory of a worker").set(
            _resident()
        )
        if (files := _open_files()) is not None:
            metrics.gauge("streamflow_worker_open_fds", "Open files of a worker").set(files)
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds, fenced = used.ru_utime + used.ru_stime, self._fenced()
        metrics.counter("streamflow_worker_cpu_seconds_total", "Processor time of a worker").add(
            seconds - self._seconds_told
        )
        metrics.counter(*FENCED).add(fenced - self._fenced_told)
        self._seconds_told, self._fenced_told = seconds, fenced


def _resident() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:  # only Linux tells the present value
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _open_files() -> int | None:
    try:
        return sum(1 for _ in _FILES.iterdir()) - 1  # one is open for the look
    except OSError:
        return None
