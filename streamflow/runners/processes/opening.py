"""Opening a pool for a job: the number of its workers, their secret, and the place where they find one another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from streamflow.config import Secret, Settings, cores
from streamflow.errors import ConfigError
from streamflow.graph.physical import PhysicalPlan
from streamflow.runners.processes.control_server import ControlServer
from streamflow.runners.processes.pool import WorkerPool
from streamflow.runners.processes.socket_folder import make_socket_folder
from streamflow.runners.processes.starting import Introduction, Subprocesses
from streamflow.runners.program import Program
from streamflow.runtime.control.placement import Placement
from streamflow.time.clock import Clock, entropy

__all__ = ["pool_for", "workers_for"]

_LOG: Final = logging.getLogger("streamflow")
_MODULE: Final = "streamflow.cli.worker"


def workers_for(plan: PhysicalPlan, settings: Settings) -> int:
    """The number of workers: the one that the settings give, else one for a plan of columns only, whose work is done
    without the interpreter's lock, and as many as there are cores for a plan with functions."""
    if settings.runner == "local":
        return 1
    if settings.processes is not None:
        return settings.processes
    functions = any(operator.spec.calls_functions for task in plan.tasks for operator in task.chain)
    return min(cores(), max(task.parallelism for task in plan.tasks)) if functions else 1


def pool_for(
    plan: PhysicalPlan, settings: Settings, program: Callable[[], Program], clock: Clock
) -> WorkerPool | None:
    """A pool for a job with this plan; None if one process is as good. Raises ConfigError if the plan cannot be placed
    on so many workers, or if workers could not import the program."""
    workers = workers_for(plan, settings)
    if workers == 1:
        return None
    if settings.instance[1] > 1:
        raise ConfigError(
            "copies that share their input run in one process each", hint="leave out instance, or the runner"
        )
    Placement(plan, workers)
    secret = entropy(32).hex()
    introduction = Introduction(
        place=0,
        process=0,
        folder=make_socket_folder(),
        secret=secret,
        silence=settings.worker_timeout / 1e6,
        max_frame=settings.channel_bytes + (1 << 20),
        log_level=logging.getLevelName(_LOG.getEffectiveLevel()),
        program=program(),
    )
    server = ControlServer(f"unix:{introduction.folder}/coordinator", Secret(secret))
    return WorkerPool(workers, Subprocesses(_MODULE, share=workers), server, introduction, clock=clock)
