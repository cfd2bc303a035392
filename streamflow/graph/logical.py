"""The logical graph: the job as the user wrote it, immutable, without tasks or threads.

Nodes are in topological order by construction: each refers only to earlier ones and knows the type of its output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import MAIN, ErrorPolicy, OperatorSpec
from streamflow.operators.contract.sink import Sink
from streamflow.operators.contract.source import Source
from streamflow.time.timestamps import Epoch
from streamflow.time.watermarks import BoundedDisorder

__all__ = ["EventTime", "Input", "LogicalGraph", "Node", "OperatorNode", "SinkNode", "SourceNode"]

EventTime = pl.Expr | Epoch | str | Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Input:
    """An edge's upper end: an output of an earlier node."""

    node: str
    output: str = MAIN


@dataclass(frozen=True, slots=True)
class SourceNode:
    """A source, the origin of its records' event times, and the strategy for its watermarks."""

    id: str
    source: Source
    type: StreamType
    timestamps: OperatorSpec | None
    """The pure operator that gives each record its event time; None if the stream has none, or the source's own."""
    watermark: BoundedDisorder
    on_error: ErrorPolicy = "fail"
    parallelism: int | None = None
    kind: str = field(default="read", init=False)


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """An operator and its inputs; `type` is that of its main output."""

    id: str
    spec: OperatorSpec
    inputs: tuple[Input, ...]
    type: StreamType
    parallelism: int | None = None

    @property
    def kind(self) -> str:
        return self.spec.kind


@dataclass(frozen=True, slots=True)
class SinkNode:
    """A sink and its input."""

    id: str
    sink: Sink
    input: Input
    type: StreamType
    kind: str = field(default="write", init=False)


Node = SourceNode | OperatorNode | SinkNode


@dataclass(frozen=True, slots=True)
class LogicalGraph:
    """All nodes of a job, each after its inputs."""

    job: str
    nodes: tuple[Node, ...]

    def node(self, id: str) -> Node:
        """The node with this id; raises KeyError if there is none."""
        for node in self.nodes:
            if node.id == id:
                return node
        raise KeyError(id)

    def laid_out_as(self, saved: Mapping[str, Mapping[str, Any]]) -> LogicalGraph:
        """The same job with its operators' state in the order of the `saved` signatures (by id); itself if the order
        is the same."""
        nodes: list[Node] = []
        for node in self.nodes:
            if isinstance(node, OperatorNode) and node.id in saved:
                spec = node.spec.laid_out_as(saved[node.id])
                node = node if spec is node.spec else replace(node, spec=spec)
            nodes.append(node)
        same = all(one is other for one, other in zip(self.nodes, nodes, strict=True))
        return self if same else LogicalGraph(self.job, tuple(nodes))

    def readers(self, id: str, output: str | None = None) -> list[Node]:
        """The nodes that read an output of `id` (any output if none is named)."""
        return [
            node
            for node in self.nodes
            for read in inputs_of(node)
            if read.node == id and (output is None or read.output == output)
        ]

    @property
    def bounded(self) -> bool:
        """Whether every source comes to an end."""
        return all(node.source.bounded for node in self.nodes if isinstance(node, SourceNode))

    def one_row_each(self, read: Input, keys: tuple[str, ...], *, logs: bool = True) -> bool | None:
        """The answer of `OperatorSpec.one_row_each` for an output; a source has its records in the order of a log, of
        which nobody knows by which key, so that its answer is `logs`."""
        node = self.node(read.node)
        if not self.type_of(read).changes:
            return False
        if not isinstance(node, OperatorNode):
            return logs
        if node.parallelism is not None and node.spec.needs(0).keys is None:
            # Batches go to its subtasks in turn, whatever their keys.
            return False
        return node.spec.one_row_each(
            keys, lambda port, columns: self.one_row_each(node.inputs[port], columns, logs=logs)
        )

    def type_of(self, read: Input) -> StreamType:
        """The type of one output of a node."""
        node = self.node(read.node)
        if read.output == MAIN or not isinstance(node, OperatorNode):
            return node.type
        return node.spec.side_type(read.output, [self.type_of(upper) for upper in node.inputs])


def inputs_of(node: Node) -> tuple[Input, ...]:
    """The inputs of a node; none for a source."""
    match node:
        case SourceNode():
            return ()
        case OperatorNode():
            return node.inputs
        case SinkNode():
            return (node.input,)
