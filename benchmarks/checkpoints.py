"""The cost of checkpoints, and the speed of recovery from one: W1 with and without them, pause and recovery.

Keyed state is of `KEYS` keys with 64 bytes each, about 100 MB in RocksDB. Recovery is from the first line of the
restarted process's own code to the first record that it processes: imports count, the interpreter's start does not.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import data, figures
from benchmarks.figures import Figure
from benchmarks.pairing import compare
from benchmarks.program import ROOT, ProgramError, ours, run_fresh
from benchmarks.rescaling import rescaling
from benchmarks.verify import Verifier

EVENTS = 20_000_000
KEYS = 1_200_000
RECOVERIES = 15


def checkpoints(verifier: Verifier, *, rounds: int = 3) -> list[Figure]:
    """All figures of this file."""
    return [*throughput(verifier, rounds=rounds), *keyed_state(), *keyed_checkpoints(), *rescaling()]


def throughput(verifier: Verifier, *, rounds: int = 3, events: int = EVENTS) -> list[Figure]:
    """W1 into files with a checkpoint every second, and without, in turn: the ratio of their speeds."""
    data.events_parquet(events)  # what the check of the result reads
    source = data.events_ndjson(events)
    with_them, without = ours("W1", sink="files", checkpoints="1s"), ours("W1", sink="files")
    compared = compare(with_them, without, (source,), rounds=rounds, verifier=verifier)
    taken = [pair.ours.more["epochs"] for pair in compared.pairs]
    name = f"W1 with a checkpoint every second / without, {events:,} events, {rounds} rounds"
    return [
        Figure(name, compared.inside, "×", "≥", figures.CHECKPOINTS_RATIO),
        Figure("checkpoints taken in each round", median(taken), ""),
    ]


def keyed_state(*, events: int = 1_000_000, rounds: int = 3) -> list[Figure]:
    """Calls of `on_event` with one ValueState in RocksDB, on one core: see `benchmarks.keyed_state`."""
    from benchmarks import keyed_state as process
    from streamflow.state.backends.factory import open_backend

    batches = process.frames("zipf", events)

    def once() -> float:
        backend = open_backend("rocksdb")
        try:
            return process.operator_seconds(batches, backend)
        finally:
            backend.close()

    rate = events / process.best(once, rounds)
    return [Figure("on_event with one ValueState in RocksDB", rate, "calls/s", "≥", figures.ON_EVENT_RATE)]


@dataclass(frozen=True)
class KeyedCheckpoints:
    """The processes' reports: bytes of state, seconds of each pause and checkpoint, of each recovery and its parts."""

    megabytes: float
    pauses: list[float]
    durations: list[float]
    rate: float
    recovered: list[dict[str, float]]

    @property
    def first_records(self) -> list[float]:
        """Seconds until the first record was processed, ascending."""
        return sorted(each["first_record"] for each in self.recovered)


def measured(*, keys: int = KEYS, recoveries: int = RECOVERIES, tree: Path = ROOT) -> KeyedCheckpoints:
    """Fills the state, recovers from it, goes on at a steady rate."""
    with TemporaryDirectory(dir=data.cache_folder()) as folder:
        filled = _do("fill", folder, keys, tree)
        _recover(folder, keys, tree)  # warms the file cache
        recovered = [_recover(folder, keys, tree) for _ in range(recoveries)]
        live = _do("live", folder, keys, tree)
    return KeyedCheckpoints(
        filled["bytes"] / 1e6, sorted(live["pauses"]), live["durations"], live["rate"], recovered
    )


def keyed_checkpoints() -> list[Figure]:
    """The pause at the barrier and the recovery, with state of about 100 MB."""
    said = measured()
    pauses = [1000 * seconds for seconds in said.pauses]
    first, recovered, recoveries = said.first_records, said.recovered, len(said.recovered)
    state = f"{said.megabytes:.0f} MB of keyed state"
    return [
        Figure(f"pause at the barrier, {state}, p50 of {len(pauses)}", median(pauses), "ms", "≤", figures.PAUSE_MS),
        Figure("pause at the barrier, longest", pauses[-1], "ms"),
        Figure("checkpoint from barrier to publication, p50", median(said.durations), "s"),
        Figure("records taken meanwhile", said.rate, "/s"),
        Figure(f"recovery, {state}, p50 of {recoveries}", median(first), "s", "≤", figures.RECOVERY_P50_SECONDS),
        Figure("recovery, slowest", first[-1], "s", "≤", figures.RECOVERY_P99_SECONDS),
        Figure("of which importing, p50", median(each["imported"] for each in recovered), "s"),
        Figure("processor time of a recovery, p50", median(each["cpu"] for each in recovered), "s"),
    ]  # fmt: skip


def _command(do: str, folder: str, keys: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.workloads.keyed_checkpoints", do, folder, str(keys)]


def _do(do: str, folder: str, keys: int, tree: Path) -> dict[str, Any]:
    output = run_fresh(f"keyed_checkpoints {do}", _command(do, folder, keys), tree=tree)
    said: dict[str, Any] = json.loads(output.splitlines()[-1])
    return said


def _recover(folder: str, keys: int, tree: Path) -> dict[str, float]:
    """A process that kills itself when it has recovered."""
    ended = subprocess.run(
        _command("recover", folder, keys),
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ended.returncode != -signal.SIGKILL:
        raise ProgramError(
            f"recovery ended with {ended.returncode}: {ended.stderr.strip().splitlines()[-1:]}"
        )
    said: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return said
