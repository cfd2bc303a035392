"""The push-down of columns: a source does not parse columns that nothing needs."""

from __future__ import annotations

from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.graph.logical import Input, LogicalGraph, OperatorNode, SinkNode, SourceNode
from streamflow.operators.contract.operator import MAIN

__all__ = ["columns_read"]


def columns_read(graph: LogicalGraph, source: SourceNode) -> tuple[str, ...] | None:
    """The source's columns that some operator or sink needs, in the schema's order; None for all.

    Works backwards from the sinks: each operator says which input columns the needed output columns take.
    """
    schema = source.source.output_type().schema
    if not isinstance(schema, Schema) or source.on_error == "dead_letter":
        return None
    needed = _needed(graph, source.id)
    if needed is not None and source.timestamps is not None:
        needed = source.timestamps.needed_columns(needed, [source.source.output_type()])
    if needed is None:
        return None
    kept = tuple(name for name in schema if name in needed)
    if not kept and len(schema) > 0:
        # Counting needs rows, and rows need at least one column.
        kept = (next(iter(schema)),)
    return None if len(kept) == len(schema) else kept


def _needed(graph: LogicalGraph, id: str) -> frozenset[str] | None:
    """The columns of a node's main output that its readers need; None for all."""
    union: frozenset[str] = frozenset()
    for reader in graph.readers(id):
        if isinstance(reader, SinkNode):
            return None
        if not isinstance(reader, OperatorNode) or Input(id, MAIN) not in reader.inputs:
            return None
        below: frozenset[str] | None = (
            _needed(graph, reader.id) if graph.readers(reader.id) else frozenset[str]()
        )
        types = [graph.type_of(read) for read in reader.inputs]
        part = reader.spec.needed_columns(below, types)
        if part is None:
            return None
        union |= part
    return union - {EVENT_TIME}
