"""The report of every measured program: one JSON line, in the same terms for streamflow and for each peer.

A program marks two moments: `ready` (imported; a JVM or cluster is up) and `done` (the result is there).
Only after that does it spend time on the checksum and on writing the result down for the harness to check.
Standard library only, since peers live in environments of their own.
"""

import csv
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SPAWNED = "STREAMFLOW_BENCH_SPAWNED"
"""Environment variable: `time.monotonic()` of the moment at which the harness started the process."""


class ResultRow(NamedTuple):
    """A key (or word) in a window (milliseconds, [start, end); 0, 0 for a global count)."""

    key: str
    start: int
    end: int
    n: int
    total: float


class Arguments(NamedTuple):
    """The harness's arguments for a measured program."""

    workload: str
    source: Path
    result: Path | None


class Stopwatch:
    """The two moments of a run. One thread; create it first thing, before heavy imports."""

    def __init__(self) -> None:
        self.spawned = float(os.environ.get(SPAWNED, time.monotonic()))
        self._ready = math.nan
        self._done = math.nan
        self._peak = math.nan

    def ready(self) -> None:
        """Start-up ends here."""
        self._ready = time.monotonic()

    def done(self) -> None:
        """The result is there; what follows is not measured."""
        self._done = time.monotonic()
        self._peak = peak_mb()

    def report(
        self, events: int, rows: Iterable[ResultRow], result: Path | None = None, **more: object
    ) -> None:
        """Prints the JSON line; writes the rows to `result` as CSV, if given."""
        digest, sums, count = 0, [], 0
        with (result or Path(os.devnull)).open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(ResultRow._fields)
            for row in rows:
                digest += zlib.crc32(f"{row[0]},{row[1]},{row[2]},{row[3]}".encode())
                sums.append(row[4])
                count += 1
                writer.writerow(row)
        line = {
            "events": events,
            "seconds": self._done - self._ready,
            "startup": self._ready - self.spawned,
            "whole": self._done - self.spawned,
            "peak_mb": self._peak,
            "rows": count,
            "checksum": f"{digest:x}",
            "sum": round(math.fsum(sums), 3),
        }
        print(json.dumps(line | more), flush=True)


def arguments() -> Arguments:
    """`PROGRAM WORKLOAD SOURCE [RESULT]`."""
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: {sys.argv[0]} WORKLOAD SOURCE [RESULT.csv]")
    return Arguments(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else None)


def peak_mb() -> float:
    """Peak resident memory in MiB of this process and its descendants (a JVM, workers).

    Linux: VmHWM, which unlike `ru_maxrss` does not begin with the size of the process that forked this one.
    Elsewhere `ru_maxrss` of this process alone.
    """
    if not Path("/proc/self/status").exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return sum(_high_water_kb(pid) for pid in _with_descendants(os.getpid())) / 1024


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # the thread has ended meanwhile
            for child in task.read_text().split():
                found += _with_descendants(int(child))
    return found


def _high_water_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0
