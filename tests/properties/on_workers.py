"""Whole jobs on several workers of one simulated event loop: real messages and frames, virtual time, nothing lost."""

from __future__ import annotations

from typing import Any

import streamflow as sf
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.observe.status import JobResult
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import profile_for
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.loop import SimLoop
from streamflow.testing.simulation.process import SimClock, SimThreads
from streamflow.testing.workers.network import Network
from streamflow.testing.workers.starting import LoopStarter, pool_on_loop

__all__ = ["run_on_workers"]

_NOON = 2_000_000_000_000_000


def run_on_workers(job: sf.Job, workers: int, seed: int, **given: Any) -> JobResult:
    """Runs a job to its end; the order in which parts of it go on comes from the seed."""
    graph, settings = job.graph, Settings.resolve(given, environ={})
    loop = SimLoop(seed)

    def ports(name: str) -> Ports:
        chance = Chance(f"{seed}/{name}")
        return Ports(
            clock=SimClock(loop, _NOON),
            random=chance.split("random"),
            io=SimThreads(chance.split("io"), 0.002),
            cpu=SimThreads(chance.split("cpu"), 0.002),
        )

    async def whole() -> JobResult:
        network, here = Network(), ports("coordinator")
        plan = physical_plan(graph, settings)
        pool = pool_on_loop(plan, workers, LoopStarter(graph, network, ports), network, here.clock)
        profile = profile_for(settings.mode, settings, bounded=graph.bounded)
        return await LocalJob(graph, physical_plan, profile, settings, ports=here, pool=pool).wait()

    try:
        result = loop.run(whole())
        assert not loop.unfinished(), loop.unfinished()
        assert not loop.reports, loop.reports
    finally:
        loop.abandon()
    return result
