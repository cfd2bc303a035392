"""The simulator over its reference jobs: ten thousand seeded lives with crashes, and whether it finds what is wrong.

Deterministic: a failing seed fails again, and the command that replays it is printed.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from reliability.account import Account, workers
from reliability.process import ROOT

SEEDS = 10_000
PIECE = 100
SAME = 200
PLANTED = 4
TIMEOUT_SECONDS = 900.0


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    from tests.simulation.jobs import JOBS

    count = SEEDS // (20 if quick else 1)
    each = -(-count // len(JOBS))
    first = account.seed % 1_000_000_000
    tasks: list[list[object]] = [["planted", number] for number in range(PLANTED)]
    tasks += [["repeated", "tumbling", first, SAME // (10 if quick else 1)]]
    tasks += [
        ["seeds", job, first + start, min(PIECE, each - start)]
        for start in range(0, each, PIECE)
        for job in JOBS
    ]
    with ThreadPoolExecutor(workers()) as pool:
        said = list(pool.map(_task, tasks))
    lives = [each for task, each in zip(tasks, said, strict=True) if task[0] == "seeds"]
    for life in lives:
        for failure in life["failures"]:
            account.fail(failure)
    for fault in said[:PLANTED]:
        found = fault["found"]
        if found is None:
            account.fail(f"planted fault {fault['fault']}: not found within {fault['most']} seeds")
        else:
            account.add(Figure(f"seeds to find {fault['fault']}", found + 1, "seeds", "≤", fault["most"]))
    crashed = Counter[str]()
    for life in lives:
        crashed.update(life["crashed"])
    account.add(
        Figure("simulated seeds", sum(life["seeds"] for life in lives), "", "≥", count),
        Figure("failing seeds", sum(len(life["failures"]) for life in lives), "", "≤", 0),
        Figure(
            f"different traces of {said[PLANTED]['seeds']} seeds run twice",
            said[PLANTED]["different"],
            "",
            "≤",
            0,
        ),
    )
    fewest, most = crashed.most_common()[-1], crashed.most_common()[0]
    account.note(
        f"{len(JOBS)} jobs ({', '.join(JOBS)}), {sum(life['processes'] for life in lives):,} processes, "
        f"{crashed.total():,} crashes at {len(crashed)} points, from {fewest[1]} ({fewest[0]}) to {most[1]} ({most[0]})"
    )


def _task(arguments: Sequence[object]) -> dict[str, Any]:
    command = [sys.executable, "-m", "reliability.simulated", *map(str, arguments)]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"POLARS_MAX_THREADS": "1"},  # frames are small, and processes run side by side
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {ended.stderr.strip().splitlines()[-1:]}")
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said
