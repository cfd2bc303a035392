"""Combining: adds a partial aggregate at the source's side, so that one row per key and slice crosses the exchange."""

from __future__ import annotations

from dataclasses import replace

from streamflow.graph.logical import Input, LogicalGraph, Node, OperatorNode

__all__ = ["combined"]


def combined(graph: LogicalGraph) -> LogicalGraph:
    """The graph with a partial aggregate before every keyed aggregate that allows it."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, OperatorNode) and len(node.inputs) == 1:
            types = [graph.type_of(upper) for upper in node.inputs]
            parts = node.spec.split_combiner(types)
            if parts is not None:
                combiner, rest = parts
                partial = combiner.output_type(types)
                combined = OperatorNode(f"{node.id}-combine", combiner, node.inputs, partial)
                nodes.append(combined)
                node = replace(node, spec=rest, inputs=(Input(combined.id),))
        nodes.append(node)
    return LogicalGraph(graph.job, tuple(nodes))
