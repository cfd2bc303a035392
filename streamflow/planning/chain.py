"""Chaining: decides each edge's exchange, which operators run as one task, and which of them run in the source's
read-ahead.

A forward edge with one reader needs no exchange: its operators are chained. The pure operators behind a source run in
its read-ahead, and a source reads only the columns that are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.graph.logical import Input, LogicalGraph, Node, OperatorNode, SinkNode, SourceNode, inputs_of
from streamflow.graph.physical import (
    ExchangeKind,
    PhysicalEdge,
    PhysicalOperator,
    PhysicalPlan,
    PhysicalTask,
)
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import MAIN
from streamflow.planning.push_down import columns_read

__all__ = ["chained"]


def chained(graph: LogicalGraph, parallelism: int, max_parallelism: int) -> PhysicalPlan:
    """The tasks of a graph and the edges between them; `parallelism` is that of nodes that do not set their own."""
    return _Chainer(graph, parallelism, max_parallelism).plan()


def _widths(graph: LogicalGraph, default: int) -> dict[str, int]:
    """The parallelism of each node: its own, one where all records must meet, else its input's or the default."""
    widths: dict[str, int] = {}
    for node in graph.nodes:
        match node:
            case SourceNode():
                widths[node.id] = node.parallelism or default
            case OperatorNode():
                keys = _keys(node)
                if () in keys:
                    widths[node.id] = 1
                elif node.parallelism is not None:
                    widths[node.id] = node.parallelism
                elif any(keys):
                    widths[node.id] = default
                else:
                    widths[node.id] = widths[node.inputs[0].node]
            case SinkNode():
                widths[node.id] = widths[node.input.node]
    return widths


def _keys(node: OperatorNode) -> list[tuple[str, ...] | None]:
    """The columns by which each input of a node has to be partitioned."""
    return [node.spec.needs(port).keys for port in range(len(node.inputs))]


def _before_timers(graph: LogicalGraph) -> frozenset[str]:
    """The nodes whose records have to carry watermarks: those before an operator that reads them."""
    marked: set[str] = set()
    for node in reversed(graph.nodes):
        reads = isinstance(node, OperatorNode) and node.spec.reads_watermarks
        if node.type.timed and (reads or node.id in marked):
            marked.update(read.node for read in inputs_of(node))
    return frozenset(marked)


@dataclass(slots=True)
class _Building:
    """A task under construction; `members` are logical ids in chain order."""

    members: list[str]


class _Chainer:
    """Decides each edge, grows the chains, and cuts off the read-ahead part."""

    def __init__(self, graph: LogicalGraph, parallelism: int, max_parallelism: int) -> None:
        self._graph = graph
        self._widths = _widths(graph, parallelism)
        self._max = max_parallelism
        self._task_of: dict[str, _Building] = {}
        self._tasks: list[_Building] = []
        self._partitioned: dict[str, tuple[str, ...] | None] = {}
        self._marked = _before_timers(graph)

    def plan(self) -> PhysicalPlan:
        edges: list[tuple[Input, Node, int, ExchangeKind, tuple[str, ...]]] = []
        for node in self._graph.nodes:
            if isinstance(node, SinkNode):
                continue
            decided = [self._exchange(read, node, port) for port, read in enumerate(inputs_of(node))]
            if len(decided) == 1 and self._chainable(inputs_of(node)[0], decided[0][0], node):
                building = self._task_of[inputs_of(node)[0].node]
                building.members.append(node.id)
            else:
                building = _Building([node.id])
                self._tasks.append(building)
                for port, (read, (kind, keys)) in enumerate(zip(inputs_of(node), decided, strict=True)):
                    edges.append((read, node, port, kind, keys))
            self._task_of[node.id] = building
            self._partitioned[node.id] = self._distribution(node, decided)
        tasks = tuple(self._finish(building) for building in self._tasks)
        return PhysicalPlan(self._graph.job, tasks, tuple(self._edge(*edge) for edge in edges), self._max)

    def _exchange(self, read: Input, node: Node, port: int) -> tuple[ExchangeKind, tuple[str, ...]]:
        needs = node.spec.needs(port) if isinstance(node, OperatorNode) else InputNeeds()
        if needs.broadcast:
            return ExchangeKind.BROADCAST, ()
        upper, lower = self._widths[read.node], self._widths[node.id]
        keys = needs.keys
        if keys:
            already = upper == lower and self._partitioned.get(read.node) == keys and read.output == MAIN
            if already or (upper == 1 and lower == 1):
                return ExchangeKind.FORWARD, ()
            return ExchangeKind.HASH, keys
        return (ExchangeKind.FORWARD if upper == lower else ExchangeKind.REBALANCE), ()

    def _distribution(
        self, node: Node, decided: list[tuple[ExchangeKind, tuple[str, ...]]]
    ) -> tuple[str, ...] | None:
        """The columns by which an output is partitioned: those of an input that the node keeps, whether it needs them
        or its only input is partitioned by them."""
        if not isinstance(node, OperatorNode):
            return None
        needed = [keys for keys in _keys(node) if keys]
        if needed or len(node.inputs) != 1 or decided[0][0] is not ExchangeKind.FORWARD:
            return next(filter(node.spec.keeps_partitioning, needed), None)
        before = self._partitioned[node.inputs[0].node] if node.inputs[0].output == MAIN else None
        return before if before and node.spec.keeps_partitioning(before) else None

    def _chainable(self, read: Input, kind: ExchangeKind, node: Node) -> bool:
        if kind is not ExchangeKind.FORWARD or read.output != MAIN:
            return False
        if isinstance(node, OperatorNode) and node.spec.asynchronous:
            return False
        others = self._graph.readers(read.node, MAIN)
        building = self._task_of[read.node]
        return len(others) == 1 and building.members[-1] == read.node

    def _finish(self, building: _Building) -> PhysicalTask:
        head = self._graph.node(building.members[0])
        source = head if isinstance(head, SourceNode) else None
        members = building.members[1:] if source else building.members
        chain: list[PhysicalOperator] = []
        if source and source.timestamps is not None:
            raw = source.source.output_type()
            stamp = f"{source.id}-event-time"
            chain.append(PhysicalOperator(stamp, source.id, source.timestamps, (raw,), source.type))
        for id in members:
            node = self._graph.node(id)
            assert isinstance(node, OperatorNode)
            types = tuple(self._graph.type_of(read) for read in node.inputs)
            chain.append(PhysicalOperator(id, id, node.spec, types, node.type, id in self._marked))
        ahead = 0
        if source:
            while ahead < len(chain) and chain[ahead].spec.pure:
                ahead += 1
        return PhysicalTask(
            id=self._id(building),
            parallelism=self._widths[building.members[0]],
            chain=tuple(chain),
            source=source,
            read_ahead=ahead,
            columns=columns_read(self._graph, source) if source else None,
            marks=head.id in self._marked,
            sinks=tuple(
                node
                for node in self._graph.nodes
                if isinstance(node, SinkNode) and self._task_of[node.input.node] is building
            ),
        )

    def _edge(
        self, read: Input, node: Node, port: int, kind: ExchangeKind, keys: tuple[str, ...]
    ) -> PhysicalEdge:
        upper, lower = self._id(self._task_of[read.node]), self._id(self._task_of[node.id])
        return PhysicalEdge(upper, read, lower, port, kind, keys)

    def _id(self, building: _Building) -> str:
        members = building.members
        return members[0] if len(members) == 1 else f"{members[0]}…{members[-1]}"
