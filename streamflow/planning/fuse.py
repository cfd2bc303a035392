"""Fusing: makes one operator of several in a row, so that rows are built once and queries optimised together."""

from __future__ import annotations

from dataclasses import replace

from streamflow.graph.logical import LogicalGraph, Node, OperatorNode
from streamflow.operators.contract.operator import MAIN

__all__ = ["fused"]


def fused(graph: LogicalGraph) -> LogicalGraph:
    """The graph with operators in a row made one, if their specs can."""
    nodes: dict[str, Node] = {node.id: node for node in graph.nodes}
    for node in graph.nodes:
        if not isinstance(node, OperatorNode) or len(node.inputs) != 1 or node.inputs[0].output != MAIN:
            continue
        upper = nodes.get(node.inputs[0].node)
        if not isinstance(upper, OperatorNode) or len(graph.readers(upper.id)) != 1:
            continue
        if upper.parallelism != node.parallelism:
            continue
        fused = upper.spec.fuse(upper.id, node.spec, node.id)
        if fused is not None:
            del nodes[upper.id]
            nodes[node.id] = replace(node, spec=fused, inputs=upper.inputs)
    return LogicalGraph(graph.job, tuple(nodes[node.id] for node in graph.nodes if node.id in nodes))
