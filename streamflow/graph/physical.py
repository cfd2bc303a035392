"""The physical plan: tasks, the operators chained in each, and the exchanges between them. Immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streamflow.core.stream_type import StreamType
from streamflow.graph.logical import Input, SinkNode, SourceNode
from streamflow.operators.contract.operator import OperatorSpec

__all__ = ["ExchangeKind", "PhysicalEdge", "PhysicalOperator", "PhysicalPlan", "PhysicalTask"]


class ExchangeKind(Enum):
    """The way of batches from the subtasks of one task to those of the next."""

    FORWARD = "forward"
    HASH = "hash"
    REBALANCE = "rebalance"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class PhysicalOperator:
    """One operator in its place; `id` is the logical node's, with a suffix if the planner split or added the
    operator. `node` is the logical node whose outputs the operator gives: for the operator that gives a source's
    records their event times, the source."""

    id: str
    node: str
    spec: OperatorSpec
    inputs: tuple[StreamType, ...]
    output: StreamType
    marks: bool = False
    """Whether the operator's records have to carry the watermark right before each."""


@dataclass(frozen=True, slots=True)
class PhysicalTask:
    """Operators that run one after the other in one subtask, at one parallelism.

    `read_ahead` counts the operators at the head of the chain that run where the source is read, on its threads.
    `columns` are the source's columns that some operator or sink reads; None for all. `marks`: the records have to
    carry the watermark right before each.
    """

    id: str
    parallelism: int
    chain: tuple[PhysicalOperator, ...]
    source: SourceNode | None = None
    read_ahead: int = 0
    columns: tuple[str, ...] | None = None
    marks: bool = False
    sinks: tuple[SinkNode, ...] = ()


@dataclass(frozen=True, slots=True)
class PhysicalEdge:
    """An edge from one output of a node in task `upper` to input `port` of task `lower`."""

    upper: str
    reads: Input
    lower: str
    port: int
    exchange: ExchangeKind
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """The plan that a runner places: tasks in topological order and the edges between them."""

    job: str
    tasks: tuple[PhysicalTask, ...]
    edges: tuple[PhysicalEdge, ...]
    max_parallelism: int = 128

    def task(self, id: str) -> PhysicalTask:
        """The task with this id; raises KeyError if there is none."""
        for task in self.tasks:
            if task.id == id:
                return task
        raise KeyError(id)

    def timed(self, id: str) -> bool:
        """Whether records that enter a task have event times."""
        task = self.task(id)
        if task.source is not None:
            return task.source.type.timed
        return any(type_.timed for type_ in task.chain[0].inputs)

    def untimed_ports(self, id: str) -> frozenset[int]:
        """The input ports of a task without event time that counts, if others have it."""
        task = self.task(id)
        ports = task.chain[0].inputs if task.source is None else ()
        untimed = frozenset(
            port
            for port, type_ in enumerate(ports)
            if not (type_.timed and task.chain[0].spec.needs(port).timed)
        )
        return untimed if len(untimed) < len(ports) else frozenset()

    def meeting(self) -> list[list[PhysicalTask]]:
        """The tasks that read, for each part of the plan that hangs together."""
        parts = {task.id: [task] for task in self.tasks}
        for edge in self.edges:
            upper, lower = parts[edge.upper], parts[edge.lower]
            if upper is not lower:
                upper += lower
                parts |= dict.fromkeys((task.id for task in lower), upper)
        whole = {id(part): part for part in parts.values()}
        return [[task for task in part if task.source is not None] for part in whole.values()]

    def aligned_sources(self) -> list[list[str]]:
        """The ids of the sources of each part of the plan that hangs together, if a source there has a `max_drift`."""
        meeting = [[task.source for task in tasks if task.source is not None] for tasks in self.meeting()]
        return [
            [source.id for source in sources]
            for sources in meeting
            if any(source.watermark.max_drift is not None for source in sources)
        ]

    def endless_ports(self, id: str) -> frozenset[int]:
        """The input ports of a task that are fed by an unbounded source."""
        return frozenset(edge.port for edge in self.edges if edge.lower == id and self._endless(edge.upper))

    def _endless(self, id: str) -> bool:
        source = self.task(id).source
        return bool(self.endless_ports(id)) if source is None else not source.source.bounded

    @property
    def sinks(self) -> tuple[SinkNode, ...]:
        """Every sink of the job, once."""
        return tuple(sink for task in self.tasks for sink in task.sinks)
