"""The simulator over its reference jobs: twenty thousand seeded lives with crashes, stops and checkpoints at any step,
ten thousand of them once more on several processes, and whether it finds what is wrong.

Deterministic: a failing seed fails again, and the command that replays it is printed.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from reliability.account import Account, workers
from reliability.process import last_said

SEEDS = 20_000
PIECE = 100
APART = 10_000
"""Seeds of jobs on several processes."""
SAME = 200
PLANTED = 13
TIMEOUT_SECONDS = 900.0


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    from tests.simulation.jobs import JOBS, TRIGGERED

    count = SEEDS // (20 if quick else 1)
    jobs = [*JOBS, *TRIGGERED]
    apart = APART // (20 if quick else 1)
    each, each_apart = -(-count // len(jobs)), -(-apart // len(jobs))
    first = account.seed % 1_000_000_000
    tasks: list[list[object]] = [["planted", number] for number in range(PLANTED)]
    tasks += [["repeated", "tumbling", first, SAME // (10 if quick else 1)]]
    tasks += [
        ["seeds", job, first + start, min(PIECE, each - start)]
        for start in range(0, each, PIECE)
        for job in jobs
    ]
    tasks += [
        ["processes", job, first + start, min(PIECE, each_apart - start)]
        for start in range(0, each_apart, PIECE)
        for job in jobs
    ]
    with ThreadPoolExecutor(workers()) as pool:
        said = list(pool.map(_task, tasks))
    lives, on_workers = (
        [each for task, each in zip(tasks, said, strict=True) if task[0] == kind]
        for kind in ("seeds", "processes")
    )
    for life in (*lives, *on_workers):
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
            "simulated seeds on several processes", sum(life["seeds"] for life in on_workers), "", "≥", apart
        ),
        Figure(
            "failing seeds on several processes",
            sum(len(life["failures"]) for life in on_workers),
            "",
            "≤",
            0,
        ),
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
        f"{len(jobs)} jobs ({', '.join(jobs)}), {sum(life['processes'] for life in lives):,} processes, "
        f"{crashed.total():,} crashes at {len(crashed)} points, from {fewest[1]} ({fewest[0]}) to {most[1]} ({most[0]})"
    )


def _task(arguments: Sequence[object]) -> dict[str, Any]:
    try:
        return last_said("reliability.simulated", arguments, timeout=TIMEOUT_SECONDS)
    except RuntimeError as error:
        if arguments[0] not in ("seeds", "processes"):
            raise
        return {"seeds": 0, "failures": [str(error)], "processes": 0, "crashed": {}}
