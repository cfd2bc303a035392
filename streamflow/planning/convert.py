"""Converting: adds a visible operator between two whose layouts differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.graph.logical import Input, LogicalGraph, Node, OperatorNode
from streamflow.operators.contract.operator import Layout, OperatorSpec

__all__ = ["ConvertFactory", "converted", "natural_layout"]

ConvertFactory = Callable[[Layout, StreamType], OperatorSpec]
"""(wanted layout, type of the stream) → the converting operator; passed in, since the planner knows no concrete
operator."""


def converted(graph: LogicalGraph, convert: ConvertFactory) -> LogicalGraph:
    """The graph with a conversion between operators whose layouts differ, one for all readers of the same output."""
    nodes: list[Node] = []
    layouts: dict[Input, Layout] = {}
    made: dict[tuple[Input, Layout], Input] = {}

    def layout_of(read: Input) -> Layout:
        if read not in layouts:
            layouts[read] = natural_layout(graph.type_of(read))
        return layouts[read]

    def through(read: Input, wanted: Layout) -> Input:
        if wanted is Layout.ANY or layout_of(read) is wanted:
            return read
        if (read, wanted) not in made:
            type_ = graph.type_of(read)
            spec = convert(wanted, type_)
            node = OperatorNode(f"{read.node}-to-{wanted.value}", spec, (read,), spec.output_type([type_]))
            nodes.append(node)
            made[read, wanted] = Input(node.id)
            layouts[Input(node.id)] = wanted
        return made[read, wanted]

    for node in graph.nodes:
        if isinstance(node, OperatorNode):
            wanted = [node.spec.needs(port).layout for port in range(len(node.inputs))]
            if len({layout_of(read) for read in node.inputs}) > 1:
                wanted = [Layout.FRAME if layout is Layout.ANY else layout for layout in wanted]
            node = replace(node, inputs=tuple(map(through, node.inputs, wanted)))
            emitted = node.spec.emits
            layouts[Input(node.id)] = layout_of(node.inputs[0]) if emitted is Layout.ANY else emitted
        nodes.append(node)
    return LogicalGraph(graph.job, tuple(nodes))


def natural_layout(type_: StreamType) -> Layout:
    """The layout that a source gives for a stream of this type."""
    return Layout.FRAME if isinstance(type_.schema, Schema) else Layout.ROWS
