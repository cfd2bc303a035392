"""Runs of jobs that are in files: here, and on workers."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from streamflow.api.job import Job
from streamflow.cli.loading import load
from streamflow.observe.status import JobResult
from streamflow.runners.local import LocalJob

JOBS = Path(__file__).parent / "jobs.py"
MADE = Path(__file__).parent / "made.py"
ROWS = 600
RUNS = [
    ("columns", "streaming", 2),
    ("functions", "micro-batch", 2),
    ("objects", "batch", 2),
    ("joined", "streaming", 3),
    ("running", "batch", 2),
]
"""Jobs that give the same with every runner: each with its mode, and a number of workers."""


def write_input(base: Path) -> None:
    """Rows of 13 keys, out of order by up to two seconds."""
    for name, factor in (("in", 7_919), ("other", 104_729)):
        (base / name).mkdir()
        times = [i * 50 + (i * factor) % 2_000 for i in range(ROWS)]
        frame = pl.DataFrame({"ts": times, "k": [f"k{i % 13}" for i in range(ROWS)], "v": range(ROWS)})
        for number, part in enumerate(frame.iter_slices(ROWS // 4)):
            part.write_ndjson(base / name / f"{number}.ndjson")


def loaded(name: str, base: Path, file: Path = JOBS, **given: object) -> tuple[Job, Any]:
    """A job of a file, loaded once more, and the collected rows `NAME_out` of its file, if there are any."""
    job, _ = load(f"{file}:{name}", {"base": str(base), **{key: str(value) for key, value in given.items()}})
    return job, getattr(sys.modules[f"__job_{file.stem}__"], f"{name}_out", None)


def counted(rows: list[Any]) -> Counter[str]:
    """The rows, each with the number of times that it is there."""
    return Counter(repr(row) for row in rows)


def run(
    name: str, base: Path, file: Path = JOBS, given: dict[str, object] | None = None, **settings: Any
) -> tuple[Counter[str], JobResult]:
    """The rows and the result of a job that collects."""
    job, out = loaded(name, base, file, **(given or {}))
    result = asyncio.run(job.run_async(**settings))
    return counted(out.rows()), result


async def until(handle: LocalJob, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for a condition while a job runs; raises its failure."""
    waiting = asyncio.ensure_future(handle.wait())
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        if waiting.done():
            waiting.result()
            raise AssertionError("the job has ended before")
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


def check_run(name: str, base: Path, mode: Any, **runner: Any) -> None:
    """A job gives with a runner what it gives in this process: its rows, and the counts of those read and late."""
    rows, result = run(name, base, mode=mode, parallelism=3)
    there, told = run(name, base, mode=mode, parallelism=3, **runner)
    assert there == rows
    for at in ("read-1", "write-1"):
        assert told.records_in[at] == result.records_in[at]
    assert told.late == result.late
