"""Starting workers as actors of Ray, each in a place that is kept for it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from streamflow.config import Settings
from streamflow.errors import ConfigError
from streamflow.graph.logical import LogicalGraph
from streamflow.runners.processes.starting import Introduction, WorkerProcess
from streamflow.runners.program import Program
from streamflow.runners.ray.actor import WorkerActor
from streamflow.runners.ray.cluster import Cluster
from streamflow.runtime.transport.addresses import tcp

__all__ = ["RayWorkers", "end_of_actor", "ray_program"]

_PRINTED: Final = 1.0
"""Seconds for which the end waits for what workers have printed, which comes through Ray's log files."""
_PATIENCE: Final = 120.0
"""Seconds in which there has to be room for all workers: a cluster may be growing."""
_NODE: Final = re.compile(r"its node has died\. Node Id: \S+ (?P<how>.*)$")
_DETAIL: Final = re.compile(
    r" pid: (?P<pid>\d+) .*? ip: (?P<host>\S+) .*exit detail: (?P<how>.*?)\.?( Some common causes.*)?$"
)


def ray_program(
    graph: LogicalGraph, program: Callable[[], Program]
) -> tuple[Program | None, LogicalGraph | None]:
    """The program with its file, for workers on other hosts; or the graph for Ray to hand over, by cloudpickle, where
    there is no file: in a notebook. Raises ConfigError if a file has the job where workers would not find it."""
    try:
        return program().with_content(), None
    except ConfigError:
        if getattr(sys.modules.get("__main__"), "__file__", None) is not None:
            raise
        return None, graph


class RayWorkers:
    """Starts workers as actors. `module` has the function that a worker runs; `graph` is handed over to it."""

    def __init__(
        self, module: str, settings: Settings, graph: LogicalGraph | None, *, patience: float = _PATIENCE
    ) -> None:
        self._module = module
        self._settings = settings
        self._graph = graph
        self._patience = patience
        # Each process has Polars' threads.
        self._environment = {"POLARS_MAX_THREADS": str(max(1, int(settings.worker_cpus)))}
        self._cluster: Cluster | None = None

    async def open(self, workers: int) -> str:
        return tcp(await asyncio.to_thread(self._open, workers), self._settings.network_ports)

    def _open(self, workers: int) -> str:
        settings = self._settings
        self._cluster = cluster = Cluster(
            settings.ray_address,
            workers=workers,
            cpus=settings.worker_cpus,
            memory=settings.worker_memory,
        )
        cluster.reserve(0, workers, self._patience)
        return cluster.host

    async def start(self, introduction: Introduction) -> WorkerProcess:
        return await asyncio.to_thread(self._start, introduction)

    def _start(self, introduction: Introduction) -> WorkerProcess:
        cluster, place = self._cluster, introduction.place
        assert cluster is not None
        if not cluster.reserved(place):
            cluster.reserve(place, 1, self._patience)
        kind = cluster.actor(WorkerActor, place, self._environment)
        told = msgspec.msgpack.encode(introduction)
        actor = kind.remote(self._module, told, self._settings.network_ports, self._graph)
        return _Actor(cluster, actor)

    async def close(self) -> None:
        if self._cluster is not None:
            await asyncio.sleep(_PRINTED)
            await asyncio.to_thread(self._cluster.close)


class _Actor:
    def __init__(self, cluster: Cluster, actor: Any) -> None:
        self._cluster = cluster
        self._actor = actor
        self._end = actor.ended.remote().future()

    @property
    def shown(self) -> str:
        return f"actor {self._actor._actor_id.hex()[:8]}"

    async def ended(self) -> str:
        try:
            how = await asyncio.wrap_future(self._end)
        except Exception as error:  # noqa: BLE001 — Ray's, of several kinds: the actor is no more
            return f"{self.shown} ended: {end_of_actor(str(error))}"
        self.kill()  # the actor's process outlives its worker
        return f"{self.shown} ended: {how}"

    def kill(self) -> None:
        self._cluster.kill(self._actor)


def end_of_actor(text: str) -> str:
    """The cause in Ray's words on an actor's end, without its advice and its numbers.

    >>> end_of_actor("Died. pid: 14 namespace: n ip: 10.0.0.2 The actor is dead because its worker process has died. "
    ... "Worker exit type: SYSTEM_ERROR Worker exit detail: End of file. Some common causes include: (1) the process …")
    'End of file (pid 14 on 10.0.0.2)'
    >>> end_of_actor("The actor died. The actor died because its node has died. Node Id: 5eb5 the node was terminated")
    'its node has died: the node was terminated'
    >>> end_of_actor("no more")
    'no more'
    """
    text = " ".join(text.split())
    if found := _DETAIL.search(text):
        return f"{found['how']} (pid {found['pid']} on {found['host']})"
    if found := _NODE.search(text):
        return f"its node has died: {found['how']}"
    return text
