"""Starting workers on the running event loop instead of in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.runners.processes.pool import WorkerPool
from streamflow.runners.processes.service import WorkerService
from streamflow.runners.processes.starting import Introduction, WorkerProcess
from streamflow.runners.processes.versions import own_versions
from streamflow.runners.program import Program
from streamflow.runtime.control.messages import Alive, Hello
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.ports import Ports
from streamflow.testing.workers.control import LoopLink, LoopServer, Watch
from streamflow.testing.workers.network import Network
from streamflow.testing.workers.transport import LoopTransport
from streamflow.time.clock import Clock

__all__ = ["LoopStarter", "pool_on_loop"]

_EVERY: Final = 1.0
"""Seconds between two words of a worker to its coordinator."""
_SILENCE: Final = 10.0
_MOST: Final = 1 << 20
"""Bytes of the largest frame."""


def _nothing() -> None:
    """Does nothing: a calm network loses nobody."""


Spawn = Callable[[str, Coroutine[Any, Any, None]], WorkerProcess]
"""Runs the main coroutine of a process, which has that name."""


class LoopStarter:
    """Starts workers of a graph (`runners.processes.starting.Starter`). `ports` gives the ports of the process with
    that name; `lost` is called by a process that has lost its coordinator, and does not return there."""

    def __init__(
        self,
        graph: LogicalGraph,
        network: Network,
        ports: Callable[[str], Ports],
        *,
        planned: Callable[[LogicalGraph, Settings], PhysicalPlan] = physical_plan,
        spawn: Spawn | None = None,
        watch: Watch | None = None,
        lost: Callable[[], None] = _nothing,
        folder: str = "/loop",
    ) -> None:
        """The addresses of all processes are below `folder`."""
        self._graph = graph
        self._network = network
        self._ports = ports
        self._planned = planned
        self._spawn = spawn or _Beside
        self._watched = {} if watch is None else {"watch": watch}
        self._lost = lost
        self._folder = folder

    async def open(self, workers: int) -> str:
        return f"unix:{self._folder}/coordinator"

    async def close(self) -> None:
        """Closes nothing: workers have ended by now."""

    async def start(self, introduction: Introduction) -> WorkerProcess:
        name = f"worker {introduction.place}, process {introduction.process}"
        return self._spawn(name, self._serve(name, introduction))

    async def _serve(self, name: str, introduction: Introduction) -> None:
        """The program of a worker, as `streamflow.cli.worker` is that of a real one."""
        ports = self._ports(name)
        link = LoopLink(self._network, introduction.coordinator, ports.clock, **self._watched)
        try:
            await link.open()
        except ConnectionError:
            self._lost()
            return
        place, process = introduction.place, introduction.process
        address = f"unix:{self._folder}/worker-{place}-{process}"
        transport = LoopTransport(self._network, address, max_frame=introduction.max_frame)
        transport.listen()
        service = WorkerService(self._graph, self._planned, transport, lambda _: ports, link.send)
        link.send(0, Hello(place, process, 0, name, transport.address, own_versions()))
        beside = [
            asyncio.create_task(self._hear(link, service)),
            asyncio.create_task(self._live(link, introduction.silence, ports.clock)),
        ]
        try:
            await service.run()
            await transport.close()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            link.close()

    async def _hear(self, link: LoopLink, service: WorkerService) -> None:
        await link.carry(service.hear)
        self._lost()

    async def _live(self, link: LoopLink, silence: float, clock: Clock) -> None:
        while True:
            link.send(0, Alive())
            await clock.sleep(_EVERY)
            if link.silent > silence:
                self._lost()


class _Beside:
    """A worker among the loop's other tasks."""

    def __init__(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.shown = name
        self._task = asyncio.create_task(work)

    async def ended(self) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._task, return_exceptions=True)
        return f"{self.shown} ended"

    def kill(self) -> None:
        self._task.cancel()


def pool_on_loop(
    plan: PhysicalPlan,
    workers: int,
    starter: LoopStarter,
    network: Network,
    clock: Clock,
    *,
    silence: float = _SILENCE,
    watch: Watch | None = None,
) -> WorkerPool:
    """A pool of workers on the running event loop. Raises ConfigError if the plan cannot be placed on so many."""
    Placement(plan, workers)
    introduction = Introduction(
        place=0,
        process=0,
        secret="",
        silence=silence,
        max_frame=_MOST,
        log_level="WARNING",
        program=Program("", plan.job, {}, "", "", []),
    )
    watched = {} if watch is None else {"watch": watch}
    return WorkerPool(workers, starter, LoopServer(network, **watched), introduction, clock=clock)
