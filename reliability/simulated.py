"""Simulated lives of the reference jobs in a process of its own, as `python -m reliability.simulated TASK …`.

Says in one line of JSON what came of them. Reference jobs and planted faults are those of the simulator's tests.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.jobs import campaign
from tests.simulation.test_planted_faults import MOST, PLANTED, found

ROWS = 12
"""Of each source; more rows make a life longer, not more dangerous."""


def seeds(job: str, first: int, count: int) -> dict[str, Any]:
    """How seeds `first … first + count − 1` of a job went."""
    lives = campaign(job, rows=ROWS)
    replay = f"python -m reliability.simulated seeds {job}"
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
    """The seed that finds a fault that was planted; None if none did."""
    plant, job = PLANTED[number]
    lives = campaign(job)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        return {"fault": plant.__name__, "found": found(lives), "most": MOST}


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


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"seeds": seeds, "planted": planted, "repeated": repeated}


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(TASKS[name](*(int(each) if each.isdigit() else each for each in arguments))))
