"""Interventions in a simulated job, at any step of its process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Ports
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.interventions import Intervention, Interventions
from streamflow.testing.simulation.points import ANY_STEP
from streamflow.testing.simulation.process import run_process
from streamflow.testing.simulation.schedule import Incarnation
from streamflow.testing.simulation.trace import Trace


class Job:
    """A job that takes checkpoints in no time."""

    def __init__(self) -> None:
        self.asked = 0

    async def checkpoint(self) -> int:
        await asyncio.sleep(0)
        self.asked += 1
        return self.asked


@pytest.mark.parametrize("step", range(1, 16))
def test_whoever_asks_is_answered_and_nobody_asks_a_job_that_is_over(step: int) -> None:
    job = Job()

    async def main(ports: Ports, interventions: Interventions) -> int:
        interventions.start(cast(LocalJob, job))
        for _ in range(3):
            await asyncio.sleep(0)
        await interventions.answered()
        asked = job.asked
        for _ in range(3):
            await asyncio.sleep(0)
        return asked

    planned = (Intervention("checkpoint", ANY_STEP, step), Intervention("checkpoint", ANY_STEP, step + 1))
    ending = run_process(
        main,
        Incarnation(1, interventions=planned),
        SimDisk(),
        chance=Chance(1),
        trace=Trace(),
        blocking=0.0,
        place=Path("/checkpoints"),
    )
    assert (ending.how, ending.leaks) == ("finished", ())
    assert ending.result == job.asked
