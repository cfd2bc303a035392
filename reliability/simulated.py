"""Simulated lives of the reference jobs in a process of its own, as `python -m reliability.simulated TASK …`.

Says in one line of JSON what came of them. Reference jobs and planted faults are those of the simulator's tests.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from streamflow.testing.simulation.campaign import Campaign
from tests.simulation import test_planted_faults_of_workers as between
from tests.simulation.jobs import campaign, on_workers
from tests.simulation.test_planted_faults import MOST, PLANTED, found

ROWS = 12
"""Of each source; more rows make a life longer, not more dangerous."""


def seeds(job: str, first: int, count: int) -> dict[str, Any]:
    """How seeds `first … first + count − 1` of a job went."""
    return _lives("seeds", job, campaign(job, rows=ROWS), first, count)


def processes(job: str, first: int, count: int) -> dict[str, Any]:
    """The same for a job on up to three workers beside the coordinator."""
    return _lives("processes", job, on_workers(job), first, count)


def _lives(task: str, job: str, lives: Campaign, first: int, count: int) -> dict[str, Any]:
    replay = f"python -m reliability.simulated {task} {job}"
    failures = [
        f"{job}: {outcome.failure}; replay: {replay} {outcome.schedule.seed} 1"
        for outcome in lives.run(range(first, first + count), shrinking=False)
        if outcome.failure is not None
    ]
    said = lives.simulation
    return {
        "seeds": said.seeds,
        "processes": said.processes,
        "crashed": dict(said.crashed),
        "failures": failures,
    }


def planted(number: int) -> dict[str, Any]:
    """The seed that finds a fault that was planted, between processes after those inside of one; None if none did."""
    several = number >= len(PLANTED)
    if several:
        plant, odds = between.PLANTED[number - len(PLANTED)]
        lives = on_workers("totals", **odds)
    else:
        plant, job = PLANTED[number]
        lives = campaign(job)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        seed = between.found(lives) if several else found(lives)
    return {"fault": plant.__name__, "found": seed, "most": between.MOST if several else MOST}


def repeated(job: str, first: int, count: int) -> dict[str, Any]:
    """Whether each seed leaves the same trace the second time."""
    once, again = (
        [
            outcome.digest
            for outcome in campaign(job, rows=ROWS).run(range(first, first + count), shrinking=False)
        ]
        for _ in range(2)
    )
    return {"seeds": count, "different": sum(a != b for a, b in zip(once, again, strict=True))}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "seeds": seeds,
    "processes": processes,
    "planted": planted,
    "repeated": repeated,
}


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(TASKS[name](*(int(each) if each.isdigit() else each for each in arguments))))
