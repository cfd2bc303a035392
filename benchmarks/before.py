"""This checkout against an earlier commit of it: the same measured processes of both in turn, ratios of their figures.

The earlier commit's own programs run, from a work tree of their own, under this environment's interpreter. Ratios above
1: this checkout is the better one.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import data, figures
from benchmarks.checkpoints import EVENTS, KeyedCheckpoints, measured
from benchmarks.figures import Figure
from benchmarks.kafka.reading import in_turn
from benchmarks.pairing import Comparison, compare
from benchmarks.program import ROOT, Program, ProgramError, ours, run_fresh
from benchmarks.verify import Verifier

LATENCY_SECONDS = 20.0


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """The commit in a work tree that lives as long as this. ProgramError where git knows no such commit."""
    with TemporaryDirectory() as folder:
        tree = Path(folder, "before")
        _git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def workload(
    mine: Program, files: tuple[Path, ...], tree: Path, rounds: int, verifier: Verifier
) -> list[Figure]:
    """Speed over files; with a smaller second one also in processor time per additional event."""
    return _speed(compare(mine, _before(mine, tree), files, rounds=rounds, verifier=verifier))


def kafka_reading(
    mine: Program, events: int, tree: Path, rounds: int, verifier: Verifier, say: Callable[[str], None]
) -> list[Figure]:
    """Speed of K1, or K1c."""
    return _speed(*in_turn([mine], _before(mine, tree), events, rounds, verifier, say))


def latency(tree: Path, rounds: int) -> list[Figure]:
    """From when a window's closing event was due to the window's last result."""

    def once(where: Path) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.latency", str(LATENCY_SECONDS)]
        said: dict[str, Any] = json.loads(run_fresh("latency", command, tree=where).splitlines()[-1])
        latencies: dict[str, float] = said["from_due_ms"]
        return latencies

    pairs = [(once(ROOT), once(tree)) for _ in range(rounds)]
    return [
        _ratio(f"latency {part}", median(theirs[part] / mine[part] for mine, theirs in pairs))
        for part in ("p50", "p99")
    ]


def checkpoints(tree: Path, rounds: int, verifier: Verifier) -> list[Figure]:
    """W1 with a checkpoint every second; barriers, checkpoints and recoveries with 100 MB of keyed state."""
    data.events_parquet(EVENTS)  # what the check of the result reads
    mine = ours("W1", sink="files", checkpoints="1s")
    speed = compare(
        mine, _before(mine, tree), (data.events_ndjson(EVENTS),), rounds=rounds, verifier=verifier
    )
    pairs = [(measured(), measured(tree=tree)) for _ in range(rounds)]
    parts: dict[str, Callable[[KeyedCheckpoints], list[float]]] = {
        "pause at the barrier, p50": lambda each: each.pauses,
        "checkpoint from barrier to publication, p50": lambda each: each.durations,
        "recovery, p50": lambda each: each.first_records,
    }
    return [
        _ratio("W1 with a checkpoint every second: speed", speed.inside),
        *(
            _ratio(name, median(median(part(theirs)) / median(part(mine)) for mine, theirs in pairs))
            for name, part in parts.items()
        ),
    ]


def _before(mine: Program, tree: Path) -> Program:
    return replace(mine, name=f"{mine.name}, before", tree=tree)


def _speed(compared: Comparison) -> list[Figure]:
    name = compared.ours.workload
    found = [_ratio(f"{name}: speed", compared.inside)]
    if compared.slope is not None and compared.processor is not None:
        found.append(Figure(f"{name}: speed per additional event", compared.slope, "×"))
        found.append(Figure(f"{name}: per additional event, by processor time", compared.processor, "×"))
    return found


def _ratio(name: str, value: float) -> Figure:
    return Figure(name, value, "×", "≥", figures.BEFORE_RATIO)


def _git(*arguments: str) -> None:
    ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ProgramError(f"git {arguments[0]} {arguments[1]}: {ended.stderr.strip()}")
