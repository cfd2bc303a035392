"""State larger than memory: many distinct keys in few windows that are all open until the input ends.

A fifth of the keys come twice, far apart, so that what has been spilled is merged with what comes later. Every row of
the result can be checked by itself: the key says its window and its value, and how often it comes.

`python -m benchmarks.large_state [KEYS [BUDGET [PARALLELISM]]]` for other sizes than the figure's.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from benchmarks import data, figures
from benchmarks.figures import Figure
from benchmarks.program import ProgramError, run_fresh

KEYS = 20_000_000
BUDGET = "400MB"
WINDOWS = 4
HOUR_MS = 3_600_000
STRIDE = 7_368_787
"""A prime: multiples of it, modulo the number of keys, name each key once and neighbours far apart."""


def large_state(*, keys: int = KEYS, budget: str = BUDGET, parallelism: int = 1) -> list[Figure]:
    """Peak memory and speed, once the result has been found right; ProgramError if it is not."""
    source = events_parquet(keys)
    with TemporaryDirectory(dir=data.cache_folder()) as folder:
        module = [sys.executable, "-m", "benchmarks.workloads.large_state"]
        command = [*module, str(source), folder, budget, str(parallelism)]
        said = json.loads(run_fresh("large_state", command).splitlines()[-1])
        check(Path(folder), keys)
    name = f"{keys:,} keys in open windows, budget {budget}"
    return [
        Figure(f"{name}: peak memory", said["peak_mb"], "MB", "≤", figures.LARGE_STATE_MB),
        Figure(f"{name}: speed", _events(keys) / said["seconds"], "events/s"),
    ]


def events_parquet(keys: int) -> Path:
    """The events, in chunks; generated on first use."""

    def write(target: Path) -> None:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetWriter(target, _chunk(keys, 0, 1).to_arrow().schema) as out:
            for start in range(0, _events(keys), data.CHUNK):
                length = min(data.CHUNK, _events(keys) - start)
                out.write_table(_chunk(keys, start, length).to_arrow(), row_group_size=data.CHUNK)

    return data.cached(f"large-state-{keys}-v1.parquet", write)


def check(folder: Path, keys: int) -> None:
    """Raises ProgramError unless the result is exactly the right one."""
    number = pl.col("key").str.slice(5).cast(pl.Int64)
    start = pl.col("window_start").dt.timestamp("ms")
    twice = (number * pow(STRIDE, -1, keys)) % keys < _events(keys) - keys
    right = (
        (pl.col("n") == 1 + twice.cast(pl.Int64))
        & (pl.col("total") == pl.col("n") * number)
        & (start == data.FIRST_MS // HOUR_MS * HOUR_MS + number % WINDOWS * HOUR_MS)
    )
    found = (
        pl.scan_parquet(folder / "**" / "*.parquet")
        .select(rows=pl.len(), events=pl.col("n").sum(), keys=number.sum(), wrong=(~right).sum())
        .collect(engine="streaming")
        .row(0)
    )
    expected = (keys, _events(keys), keys * (keys - 1) // 2, 0)
    if found != expected:
        raise ProgramError(
            f"large_state: rows, events, sum of keys and wrong rows are {found}, not {expected}"
        )


def _events(keys: int) -> int:
    return keys + keys // 5


def _chunk(keys: int, start: int, length: int) -> pl.DataFrame:
    at = pl.int_range(start, start + length)
    number = at * STRIDE % keys
    hour = data.FIRST_MS // HOUR_MS * HOUR_MS + number % WINDOWS * HOUR_MS
    return pl.select(
        ts=hour + at % HOUR_MS,
        key=pl.format("user-{}", number.cast(pl.String).str.zfill(9)),
        value=number.cast(pl.Float64),
    )


if __name__ == "__main__":
    chosen = dict(zip(("keys", "budget", "parallelism"), sys.argv[1:], strict=False))
    for figure in large_state(
        keys=int(chosen.get("keys", KEYS)),
        budget=chosen.get("budget", BUDGET),
        parallelism=int(chosen.get("parallelism", 1)),
    ):
        print(*figure.cells(), sep="  ")
