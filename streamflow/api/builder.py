"""The graph under construction: each call of the fluent API adds one node, and nothing runs.

Nodes are immutable; a later call about a node (`named`, `on_error`, `parallel`, `.late`) replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, StreamflowError, Where, represented
from streamflow.graph.logical import Input, LogicalGraph, Node, OperatorNode, SinkNode, SourceNode
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.operators.contract.sink import Sink
from streamflow.operators.stateless.extract import Extract
from streamflow.user_lines import calling_line

__all__ = ["GraphBuilder"]

T = TypeVar("T")
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class GraphBuilder:
    """Collects nodes in the order in which they are written."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._nodes: dict[str, Node] = {}
        self._counts: dict[str, int] = {}
        self._renamed: dict[str, str] = {}

    @property
    def graph(self) -> LogicalGraph:
        """The graph as it stands."""
        return LogicalGraph(self.job, tuple(self._nodes.values()))

    def node(self, id: str) -> Node:
        """The node with this id."""
        return self._nodes[self._current(id)]

    def new_id(self, kind: str) -> str:
        """An id for a new node: its kind and a number. The same program gives the same ids."""
        base = kind.replace("_", "-")
        while True:
            self._counts[base] = self._counts.get(base, 0) + 1
            id = f"{base}-{self._counts[base]}"
            if id not in self._nodes:
                return id

    def add(self, node: Node) -> str:
        """Adds a complete node."""
        self._nodes[node.id] = node
        return node.id

    def add_operator(self, spec: OperatorSpec, inputs: tuple[Input, ...]) -> str:
        """Adds an operator on earlier outputs; raises JobDefinitionError that names the operator if it does not fit
        them."""
        id = self.new_id(spec.kind)
        inputs = tuple(map(self.current, inputs))
        graph = self.graph
        with_place(id, lambda: spec.split_combiner([graph.type_of(read) for read in inputs]))
        types = [graph.type_of(read) for read in inputs]
        type_ = with_place(id, lambda: spec.output_type(types))
        changing = [read for read, type in zip(inputs, types, strict=True) if type.changes]
        if changing and spec.on_changes == "refuse":
            raise JobDefinitionError(
                f"{self._changed_by(changing[0])} gives changes of its results, and {spec.kind} would take each for a"
                " record",
                where=Where(operator=id),
                hint="aggregate the records themselves, or use process(…), whose events carry their change",
            )
        if changing and spec.on_changes == "pass":
            _check_kinds(spec, type_, Where(operator=id))
            type_ = replace(type_, changes=type_.changes.union(*(type.changes for type in types)))
        return self.add(OperatorNode(id, spec, inputs, type_))

    def _changed_by(self, read: Input) -> str:
        """The id of the operator whose changing results come through this output."""
        node = self._nodes[read.node]
        for before in node.inputs if isinstance(node, OperatorNode) else ():
            if self.graph.type_of(before).changes:
                return self._changed_by(before)
        return node.id

    def add_sink(self, sink: Sink, read: Input) -> str:
        """Adds a sink on an earlier output."""
        id = self.new_id("write")
        read = self.current(read)
        type_ = self.graph.type_of(read)
        with_place(id, lambda: sink.check(type_))
        with_place(id, lambda: self._check_rows(sink, read, type_))
        with_place(id, lambda: self._check_place(sink, type_))
        return self.add(SinkNode(id, sink, read, type_))

    def _check_rows(self, sink: Sink, read: Input, type_: StreamType) -> None:
        """Raises JobDefinitionError for changes in which the rows that a sink replaces come and go in another order."""
        keys = sink.row_key(type_) if type_.changes else None
        if keys is not None and self.graph.one_row_each(read, keys) is False:
            given = represented(keys[0] if len(keys) == 1 else list(keys))
            raise JobDefinitionError(
                f"{sink.describe()} keeps one row of each {', '.join(keys)}, and these changes are made by another key,"
                " have several rows of one, or are spread by parallel(…): a row that goes could remove its successor",
                hint=f"write the row that stands of each: .to_table({given}).changes().write(…)",
            )

    def _check_place(self, sink: Sink, type_: StreamType) -> None:
        """Raises JobDefinitionError if another sink writes to the same place and the two cannot share it."""
        place = sink.place(type_)
        for node in self._nodes.values() if place is not None else ():
            other = node.sink.place(node.type) if isinstance(node, SinkNode) else None
            if other is not None and place is not None and other[0] == place[0] and other[1] != place[1]:
                raise JobDefinitionError(
                    f"{sink.describe()} writes where {node.id!r} does, and the two do not go together",
                    hint="give each a path of its own; or union the streams and write them once",
                )

    def change(self, id: str, **changes: Any) -> None:
        """Replaces some fields of a node."""
        id = self._current(id)
        self._nodes[id] = replace(self._nodes[id], **changes)

    def rename(self, old: str, new: str) -> None:
        """Gives a node another id, everywhere; streams that were handed out before still lead to it."""
        old = self._current(old)
        given: object = new
        if not (isinstance(given, str) and _ID.fullmatch(given)):
            raise JobDefinitionError(
                f"{new!r} cannot name an operator", hint="use lower-case letters, digits, - and _, at most 63"
            )
        if new in self._nodes and new != old:
            raise JobDefinitionError(f"two operators are named {new!r}", hint="choose another name")

        def moved(read: Input) -> Input:
            return replace(read, node=new) if read.node == old else read

        nodes: dict[str, Node] = {}
        for node in self._nodes.values():
            id = new if node.id == old else node.id
            match node:
                case SourceNode():
                    nodes[id] = replace(node, id=id)
                case OperatorNode():
                    nodes[id] = replace(node, id=id, inputs=tuple(map(moved, node.inputs)))
                case SinkNode():
                    nodes[id] = replace(node, id=id, input=moved(node.input))
        self._nodes = nodes
        self._renamed[old] = new

    def current(self, read: Input) -> Input:
        """The same output, under the present id of its operator."""
        return replace(read, node=self._current(read.node))

    def _current(self, id: str) -> str:
        """The present id of a node that had this id once."""
        while id not in self._nodes and id in self._renamed:
            id = self._renamed[id]
        return id


def with_place(id: str, call: Callable[[], T]) -> T:
    """The result of `call()`; errors that it raises name the operator."""
    try:
        return call()
    except StreamflowError as error:
        raise error.at(Where(operator=id, code=calling_line())) from error.__cause__


def _check_kinds(spec: OperatorSpec, made: StreamType, where: Where) -> None:
    """Raises JobDefinitionError for an operator that gives changes other kinds than they have."""
    dtype = made.schema.get(CHANGE) if isinstance(made.schema, Schema) else None
    # Kinds that are read out of objects are checked one by one.
    known = (None, CHANGE_TYPE, pl.Unknown(), *([pl.String()] if isinstance(spec, Extract) else []))
    if spec.overwrites(CHANGE) or dtype not in known:
        raise JobDefinitionError(
            f"the column {CHANGE!r} says which kind of change each record is, and {spec.kind} puts something else into"
            f" it{'' if dtype in (None, CHANGE_TYPE) else f' ({dtype})'}",
            where=where,
            hint="leave it as it is, and give your own column another name",
        )
