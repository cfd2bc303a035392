"""Placement: the worker of each subtask. Decides, does no I/O.

Subtask i of every task is placed on the same worker: forward edges stay inside a process, and of an exchange by hash
one row in n does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamflow.errors import ConfigError
from streamflow.graph.physical import ExchangeKind, PhysicalPlan

__all__ = ["Placement"]

_MOST_CHANNELS = 8_000
"""Channels between one worker and all others: each is a connection."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The subtasks of a plan on so many workers, which are numbered from 0.

    >>> from streamflow.graph.physical import PhysicalTask
    >>> plan = PhysicalPlan("job", (PhysicalTask("read", 3, ()), PhysicalTask("write", 1, ())), ())
    >>> placement = Placement(plan, 2)
    >>> placement.subtasks(0), placement.subtasks(1)
    ((('read', 0), ('read', 2), ('write', 0)), (('read', 1),))
    """

    plan: PhysicalPlan
    workers: int

    def __post_init__(self) -> None:
        widest = max((task.parallelism for task in self.plan.tasks), default=1)
        if self.workers > widest:
            raise ConfigError(
                f"{self.workers} processes are more than any operator has subtasks ({widest})",
                hint=f"raise parallelism, or give processes={widest}",
            )
        most = max(self.channels(worker) for worker in range(self.workers))
        if most > _MOST_CHANNELS:
            raise ConfigError(
                f"a process would have {most} channels to others, and may have {_MOST_CHANNELS}",
                hint="lower parallelism, or give fewer processes",
            )

    def worker_of(self, subtask: int) -> int:
        """The worker of a subtask, whatever its task."""
        return subtask % self.workers

    def subtasks(self, worker: int) -> Sequence[tuple[str, int]]:
        """The subtasks of a worker, by task and number."""
        return tuple(
            (task.id, number)
            for task in self.plan.tasks
            for number in range(worker, task.parallelism, self.workers)
        )

    def channels(self, worker: int) -> int:
        """The number of channels between a worker and all others."""
        count = 0
        for edge in self.plan.edges:
            upper, lower = self.plan.task(edge.upper).parallelism, self.plan.task(edge.lower).parallelism
            if edge.exchange is not ExchangeKind.FORWARD:
                own_upper = len(range(worker, upper, self.workers))
                own_lower = len(range(worker, lower, self.workers))
                count += own_upper * (lower - own_lower) + own_lower * (upper - own_upper)
        return count
