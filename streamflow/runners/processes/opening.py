"""Opening a pool for a job: the number of its workers, their secret, and the starter that brings them up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from streamflow.config import Secret, Settings, cores
from streamflow.errors import ConfigError
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.runners.processes.control_server import ControlServer
from streamflow.runners.processes.pool import WorkerPool
from streamflow.runners.processes.starting import Introduction, Starter, Subprocesses
from streamflow.runners.program import Program
from streamflow.runners.ray.starting import RayWorkers, ray_program
from streamflow.runners.used_values import used_values
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.transport.tls import Tls
from streamflow.time.clock import Clock, entropy

__all__ = ["introduction_by", "pool_for", "workers_for"]

_LOG: Final = logging.getLogger("streamflow")
_MODULE: Final = "streamflow.cli.worker"


def workers_for(plan: PhysicalPlan, settings: Settings) -> int:
    """The number of workers: the one that the settings give, else one for a plan of columns only, whose work is done
    without the interpreter's lock, and as many as there are cores for a plan with functions. With Ray, whose cores are
    elsewhere: a worker for each subtask of an operator."""
    if settings.runner == "local":
        return 1
    if settings.processes is not None:
        return settings.processes
    parallelism = max(task.parallelism for task in plan.tasks)
    if settings.runner == "ray":
        return parallelism
    functions = any(operator.spec.calls_functions for task in plan.tasks for operator in task.chain)
    return min(cores(), parallelism) if functions else 1


def pool_for(
    graph: LogicalGraph, plan: PhysicalPlan, settings: Settings, program: Callable[[], Program], clock: Clock
) -> WorkerPool | None:
    """A pool for a job with this plan; None if one process is as good. Raises ConfigError if the plan cannot be placed
    on so many workers, or if workers could not have the program."""
    workers = workers_for(plan, settings)
    if workers == 1 and settings.runner != "ray":
        return None
    if settings.instance[1] > 1:
        raise ConfigError(
            "copies that share their input run in one process each", hint="leave out instance, or the runner"
        )
    Placement(plan, workers)
    if settings.runner == "ray":
        shipped, handed = ray_program(graph, program)
        starter: Starter = RayWorkers(_MODULE, settings, handed)
        tls = None if settings.network_tls is None else Tls(*settings.network_tls.split(","))
    else:
        shipped, tls = program(), None
        starter = Subprocesses(_MODULE, share=workers)
    values = {} if shipped is None else used_values(graph)
    introduction = replace(introduction_by(settings, shipped, tls), values=values)
    server = ControlServer(Secret(introduction.secret), tls=tls)
    return WorkerPool(workers, starter, server, introduction, clock=clock)


def introduction_by(settings: Settings, program: Program | None, tls: Tls | None = None) -> Introduction:
    """The introduction of a run's first worker, with a secret that no other run has."""
    return Introduction(
        place=0,
        process=0,
        secret=entropy(32).hex(),
        silence=settings.worker_timeout / 1e6,
        max_frame=settings.channel_bytes + (1 << 20),
        log_level=logging.getLevelName(_LOG.getEffectiveLevel()),
        program=program,
        tls=tls,
        lz4=settings.network_compression == "lz4",
    )
