"""Events that a processor second joins, streamflow beside PyFlink SQL: the same two files, the same pairs.

Processor seconds per additional event, between a fifth of the events and all of them: what a JVM does before the first
event, and what it compiles meanwhile, is left out on both sides as far as it does not grow.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from benchmarks.figures import Figure
from benchmarks.peers.table import PEERS, interpreter_for
from benchmarks.program import Measurement, Program, ProgramError, measure

EVENTS = 1_000_000
MINUTES = 2_000
KEYS = {"interval": 10_000, "asof": 100_000, "regular": 100_000}


def joins_beside_flink(events: int = EVENTS) -> Iterator[Figure]:
    """A figure for each join; none where PyFlink is not installed."""
    python = next(interpreter_for(peer) for peer in PEERS if peer.package == "pyflink")
    if python is None:
        return
    ours = "benchmarks.workloads.join_files", sys.executable
    theirs = "benchmarks.peers.flink_joins", python
    for kind, keys in KEYS.items():
        with TemporaryDirectory() as folder:
            few, all_ = (written(Path(folder, str(n)), n, keys) for n in (events // 5, events))
            slopes: list[float] = []
            pairs: list[set[object]] = []
            for module, interpreter in (ours, theirs):
                program = Program(module, module, kind, interpreter)
                short, long = measure(program, few), measure(program, all_)
                slopes.append((long.cpu - short.cpu) / (long.events - short.events))
                pairs.append({_pairs(short), _pairs(long)})
            if pairs[0] != pairs[1]:
                raise ProgramError(f"{kind} join: streamflow gives {pairs[0]} pairs, PyFlink {pairs[1]}")
        yield Figure(f"{kind} join: events a processor second", 1 / slopes[0], "/s")
        yield Figure(f"the same / PyFlink SQL ({1 / slopes[1]:,.0f}/s)", slopes[1] / slopes[0], "×", "≥", 5)


def _pairs(run: Measurement) -> object:
    return run.more["pairs"]


def written(folder: Path, count: int, keys: int) -> Path:
    """A folder with the events of both sides, in order of time and of random keys, as dense for every `count`."""
    folder.mkdir()
    at = pl.int_range(count, dtype=pl.UInt64)
    for seed, side in enumerate(("left", "right"), 1):
        span = MINUTES * 60_000 * count // EVENTS
        frame = pl.select(
            ts=at.cast(pl.Int64) * span // count,
            key=(at.hash(seed) % keys).cast(pl.Int64),
            value=at.cast(pl.Int64),
        )
        frame.write_ndjson(folder / f"{side}.ndjson")
    return folder


if __name__ == "__main__":
    for figure in joins_beside_flink(*map(int, sys.argv[1:])):
        print(*figure.cells(), sep=" | ", flush=True)
