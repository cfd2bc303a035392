"""Figures of streamflow alone: peak memory over two sizes, latency, time to import, time of the demo."""

import json
import shutil
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks import data, figures
from benchmarks.figures import Figure
from benchmarks.program import ours, run_fresh
from benchmarks.verify import Verifier

IMPORT = "import time; t = time.perf_counter(); import streamflow; print(time.perf_counter() - t)"


def memory(verifier: Verifier, *, small: int = 5_000_000, large: int = 20_000_000) -> list[Figure]:
    """Peak memory of W1 with its result in files, at two sizes, and how much it grows."""
    program = ours("W1", sink="files")
    for count in (small, large):
        data.events_parquet(count)  # what the check of the result reads
    peaks = [verifier.measure(program, data.events_ndjson(count)).peak_mb for count in (small, large)]
    return [
        Figure(f"W1 peak memory, {small:,} events", peaks[0], "MB", "≤", figures.MEMORY_MB),
        Figure(f"W1 peak memory, {large:,} events", peaks[1], "MB", "≤", figures.MEMORY_MB),
        Figure("growth from the one to the other", peaks[1] / peaks[0], "×", "≤", figures.MEMORY_GROWTH),
    ]


def latency(*, seconds: float = 20.0) -> list[Figure]:
    """From the event that closes a window to the window's last result, at 50,000 events a second."""
    said = json.loads(
        run_fresh("latency", [sys.executable, "-m", "benchmarks.latency", str(seconds)]).splitlines()[-1]
    )
    due, emitted = said["from_due_ms"], said["from_emission_ms"]
    return [
        Figure(
            "latency p99, from when the closing event was due", due["p99"], "ms", "≤", figures.LATENCY_P99_MS
        ),
        Figure("latency p50, from when the closing event was due", due["p50"], "ms"),
        Figure("latency p99, from its emission", emitted["p99"], "ms"),
        Figure("latency p50, from its emission", emitted["p50"], "ms"),
        Figure("rate held", said["events_per_second"], "events/s", "≥", 49_000),
    ]


def startup(*, rounds: int = 5) -> list[Figure]:
    """`import streamflow`, and the whole process of `streamflow demo --mode batch`; after one warm-up."""
    imports = [
        float(run_fresh("import streamflow", [sys.executable, "-c", IMPORT])) for _ in range(rounds + 1)
    ]
    demo = [_seconds_of([*_command_line(), "demo", "--mode", "batch"]) for _ in range(min(rounds, 3) + 1)]
    return [
        Figure("import streamflow", median(imports[1:]), "s", "≤", figures.IMPORT_SECONDS),
        Figure("streamflow demo --mode batch", median(demo[1:]), "s", "≤", figures.DEMO_SECONDS),
    ]


def _command_line() -> list[str]:
    """The installed command of this environment, or the module where there is none."""
    installed = shutil.which("streamflow", path=str(Path(sys.executable).parent))
    return [installed] if installed else [sys.executable, "-m", "streamflow"]


def _seconds_of(command: list[str]) -> float:
    started = time.monotonic()
    run_fresh("streamflow demo", command)
    return time.monotonic() - started
