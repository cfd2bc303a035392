"""`python -m benchmarks.processes`: two processes beside one, on the same events, each in turn.

W1 in columns, W1fn with a Python function in every place, KP a `KeyedProcess`; two files, parallelism 2. Seconds and
processor seconds per additional event, between a fifth of the events and all of them: the workers' start is not in
them, and told by itself. Ratios are of neighbours in time, the median over the rounds; above 1, two processes are the
better ones. On two cores: one process with its threads has both already.

`--workers 64` runs that many, each with one subtask of every operator, and tells what they take: connections, start,
memory that a worker has for itself, the coordinator's processor time, and a checkpoint.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks.data import events_in_turn
from benchmarks.figures import Figure
from benchmarks.program import ROOT, Measurement, Program, ProgramError, measure

EVENTS = {"W1": 4_000_000, "W1fn": 1_500_000, "KP": 1_000_000}
BOUNDS = {"W1": 0.9, "W1fn": 1.5, "KP": 1.5}


@dataclass(frozen=True)
class Cost:
    """Seconds and processor seconds per additional event, and the seconds that do not grow with the events."""

    seconds: float
    processor: float
    start: float


def figures(workload: str, rounds: int, scale: float) -> Iterator[Figure]:
    """The figures of one workload."""
    events = round(EVENTS[workload] * scale)
    few, all_ = (events_in_turn(count, 2) for count in (events // 5, events))
    faster: list[float] = []
    cheaper: list[float] = []
    starts: list[float] = []
    for _ in range(rounds):
        one, two = (cost(workload, processes, few, all_) for processes in (1, 2))
        faster.append(one.seconds / two.seconds)
        cheaper.append(two.processor / one.processor)
        starts.append(two.start - one.start)
    yield Figure(f"{workload}: one process / two, time per event", median(faster), "×", "≥", BOUNDS[workload])
    yield Figure(f"{workload}: two processes / one, processor time per event", median(cheaper), "×", "≤", 1.1)
    yield Figure(f"{workload}: start of two workers", median(starts), "s", "≤", 1.5)


def cost(workload: str, processes: int, few: str, all_: str) -> Cost:
    short, long = (run(workload, processes, path) for path in (few, all_))
    more = long.events - short.events
    seconds, processor = (long.seconds - short.seconds) / more, (long.cpu - short.cpu) / more
    return Cost(seconds, processor, short.seconds - seconds * short.events)


def run(workload: str, processes: int, path: str, **more: str) -> Measurement:
    environment = {
        "STREAMFLOW_BENCH_WORKLOAD": workload,
        "STREAMFLOW_BENCH_SOURCE": path,
        "STREAMFLOW_BENCH_PROCESSES": str(processes),
        **more,
    }
    program = Program(
        f"{processes} processes", "benchmarks.workloads.spread", workload, environment=environment
    )
    return measure(program, Path(path))


def barrier(rounds: int) -> Figure:
    """The seconds from a checkpoint's beginning to its publication, on two processes and on one."""
    path = events_in_turn(EVENTS["KP"] // 5, 2)
    differences: list[float] = []
    for _ in range(rounds):
        taken = [run("KP", n, path, STREAMFLOW_BENCH_CHECKPOINTS="250ms").more["checkpoint"] for n in (1, 2)]
        if None in taken:
            raise ProgramError("a run took no checkpoint")
        differences.append((taken[1] - taken[0]) * 1_000)
    return Figure("last checkpoint, two processes - one", median(differences), "ms", "≤", 5)


def many(workers: int) -> Iterator[Figure]:
    """The figures of so many workers that have little to do."""
    environment = {
        "STREAMFLOW_BENCH_WORKLOAD": "few",
        "STREAMFLOW_BENCH_SOURCE": "-",
        "STREAMFLOW_BENCH_PROCESSES": str(workers),
        "STREAMFLOW_BENCH_PARALLELISM": str(workers),
        "STREAMFLOW_BENCH_CHECKPOINTS": "1s",
    }
    command = [sys.executable, "-m", "benchmarks.workloads.spread"]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""} | environment
    with psutil.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as coordinator:
        own: list[int] = []
        used = connections = 0
        while coordinator.poll() is None:
            try:
                children = coordinator.children()
                if len(children) == workers:
                    own = [child.memory_full_info().uss for child in children]
                    connections = max(
                        connections, *(len(child.net_connections("unix")) for child in children)
                    )
                used = coordinator.cpu_times().user
            except psutil.Error:
                continue
            time.sleep(0.5)
        said = json.loads(coordinator.stdout.read().splitlines()[-1])
    yield Figure(f"{workers} workers: memory of each for itself, median", median(own) / 2**20, "MB")
    yield Figure(f"{workers} workers: Unix sockets of one, at most", connections, "")
    yield Figure(
        f"{workers} workers: seconds from start to end, of which 30 by the clock", said["seconds"], "s"
    )
    yield Figure(f"{workers} workers: the coordinator's processor time", used, "s")
    yield Figure(f"{workers} workers: last checkpoint", said["checkpoint"] * 1_000, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", default=list(EVENTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--workers", type=int)
    given = parser.parse_args()
    if given.workers:
        for figure in many(given.workers):
            print(*figure.cells(), sep=" | ", flush=True)
        return
    for workload in given.workloads:
        for figure in figures(workload, given.rounds, given.scale):
            print(*figure.cells(), sep=" | ", flush=True)
    print(*barrier(given.rounds).cells(), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
