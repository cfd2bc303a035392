"""The physical plan: tasks, the operators chained in each, and the exchanges between them. Immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streamflow.graph.logical import SinkNode, SourceNode
from streamflow.operators.base import OperatorSpec, StreamType

__all__ = ["ExchangeKind", "PhysicalEdge", "PhysicalOperator", "PhysicalPlan", "PhysicalSink", "PhysicalTask"]


class ExchangeKind(Enum):
    """How batches get from the subtasks of one task to those of the next."""

    FORWARD = "forward"
    HASH = "hash"
    REBALANCE = "rebalance"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class PhysicalOperator:
    """One operator in its place; `id` is the logical node's, with a suffix where the planner split or added it."""

    id: str
    spec: OperatorSpec
    inputs: tuple[StreamType, ...]
    output: StreamType


@dataclass(frozen=True, slots=True)
class PhysicalSink:
    """A sink fed by output `output` of the operator at `position` in its task's chain (−1: the source)."""

    node: SinkNode
    position: int
    output: str


@dataclass(frozen=True, slots=True)
class PhysicalTask:
    """Operators that run one after the other in one subtask, at one parallelism.

    `read_ahead` counts the operators at the head of the chain that run where the source is read, on its threads.
    `columns` is what anybody reads of the source; None means all.
    """

    id: str
    parallelism: int
    chain: tuple[PhysicalOperator, ...]
    source: SourceNode | None = None
    read_ahead: int = 0
    columns: tuple[str, ...] | None = None
    sinks: tuple[PhysicalSink, ...] = ()


@dataclass(frozen=True, slots=True)
class PhysicalEdge:
    """From output `output` of the operator at `position` of task `upper` to input `port` of task `lower`."""

    upper: str
    position: int
    output: str
    lower: str
    port: int
    exchange: ExchangeKind
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """What a runner places: tasks in topological order and the edges between them."""

    job: str
    tasks: tuple[PhysicalTask, ...]
    edges: tuple[PhysicalEdge, ...]
    max_parallelism: int = 128

    def task(self, id: str) -> PhysicalTask:
        """The task of that id; KeyError if there is none."""
        for task in self.tasks:
            if task.id == id:
                return task
        raise KeyError(id)

    @property
    def sinks(self) -> tuple[SinkNode, ...]:
        """Every sink of the job, once."""
        return tuple(sink.node for task in self.tasks for sink in task.sinks)
