"""`Stream`: records on their way. Each method adds one node to the job's graph and returns a new stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import polars as pl

from streamflow.errors import JobDefinitionError, Where, unknown_name
from streamflow.graph.logical import Input, OperatorNode, SourceNode
from streamflow.operators.async_io import Backoff, MapAsync
from streamflow.operators.base import ERRORS, ErrorPolicy, OperatorSpec, StreamType
from streamflow.operators.columns import Drop, Explode, Filter, Rename, Select, WithColumns
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.frames import MapBatches
from streamflow.operators.functions import Functions, Step, declared_schema
from streamflow.operators.routing import SplitBy, Union
from streamflow.operators.sink import Sink
from streamflow.records.schema import Schema
from streamflow.time.timestamps import Duration, parse_duration

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder
    from streamflow.api.keyed import KeyedStream

__all__ = ["Stream"]

IntoExpr = str | pl.Expr


class Stream:
    """A stream of records: columns where its schema is known, Python objects otherwise."""

    def __init__(self, builder: GraphBuilder, read: Input) -> None:
        self._builder = builder
        self._read = read

    def __repr__(self) -> str:
        return f"Stream({self._read.node}: {self.schema!r})"

    @property
    def type(self) -> StreamType:
        """Its columns, and whether its records have event times."""
        return self._builder.graph.type_of(self._read)

    @property
    def schema(self) -> object:
        """Its columns and their types, or OBJECTS."""
        return self.type.schema

    # Columns.

    def filter(self, predicate: pl.Expr | Callable[[Any], object]) -> Stream:
        """Keep the records for which an expression, or a function of one row, is true."""
        if isinstance(predicate, pl.Expr):
            return self.apply(Filter(predicate=predicate))
        if not callable(predicate):
            raise JobDefinitionError(f"filter got {predicate!r}", hint="give an expression like col('x') > 1")
        return self.apply(Functions((Step("filter", predicate),)))

    def select(self, *expressions: IntoExpr, **named: IntoExpr) -> Stream:
        """These columns and no others; event time goes along."""
        return self.apply(Select(expressions=_expressions(expressions, named)))

    def with_columns(self, *expressions: IntoExpr, **named: IntoExpr) -> Stream:
        """All columns, some of them new or replaced."""
        return self.apply(WithColumns(expressions=_expressions(expressions, named)))

    def rename(self, names: dict[str, str]) -> Stream:
        """Columns under other names, old to new."""
        return self.apply(Rename(names=tuple(names.items())))

    def drop(self, *names: str) -> Stream:
        """All columns but these."""
        return self.apply(Drop(names=names))

    def explode(self, *names: str) -> Stream:
        """A record for each element of the lists in these columns."""
        return self.apply(Explode(names=names))

    def map_batches(
        self, function: Callable[[pl.DataFrame], pl.DataFrame], *, schema: dict[str, Any] | None = None
    ) -> Stream:
        """A function from DataFrame to DataFrame. It sees event time as the column `__event_time` and has to keep it
        for the stream to keep it. Its columns come from running it on an empty frame, unless `schema` says them."""
        return self.apply(MapBatches(function, None if schema is None else Schema(schema)))

    # Python functions.

    def map(self, function: Callable[[Any], Any], *, schema: object = None) -> Stream:
        """A function of one row: a dict, or the bare value where there is one column. Its return annotation or
        `schema` says the columns of the result; without either the stream holds objects."""
        return self.apply(Functions((Step("map", function, declared_schema(schema, function, flat=False)),)))

    def flat_map(self, function: Callable[[Any], Iterable[Any]], *, schema: object = None) -> Stream:
        """A function that gives any number of records for one row."""
        return self.apply(
            Functions((Step("flat_map", function, declared_schema(schema, function, flat=True)),))
        )

    def map_async(
        self,
        function: Callable[[Any], Any],
        *,
        capacity: int = 100,
        ordered: bool = True,
        timeout: Duration = "1s",
        retries: Backoff | None = None,
        schema: object = None,
    ) -> Stream:
        """A coroutine function of one row, up to `capacity` at once; each attempt may take `timeout`."""
        if capacity < 1:
            raise JobDefinitionError(f"capacity is {capacity}", hint="it must be at least 1")
        spec = MapAsync(
            function=function,
            schema=declared_schema(schema, function, flat=False),
            capacity=capacity,
            ordered=ordered,
            timeout=parse_duration(timeout, what="timeout", positive=True),
            retries=retries or Backoff(0),
        )
        return self.apply(spec)

    # Routing.

    def union(self, *others: Stream) -> Stream:
        """All records of this and other streams, which must have the same columns."""
        for other in others:
            if other.builder is not self._builder:
                raise JobDefinitionError("a union of streams of two jobs", hint="read both in one sf.Job")
        reads = (self._read, *(other._read for other in others))
        return Stream(self._builder, Input(self._builder.add_operator(Union(), reads)))

    def split(self, **branches: pl.Expr) -> dict[str, Stream]:
        """Each record to the first branch whose expression is true, the rest to the stream called `rest`."""
        if "rest" in branches:
            raise JobDefinitionError(
                "a branch is called 'rest'", hint="that is the name of what no branch takes"
            )
        id = self._builder.add_operator(SplitBy(branches=tuple(branches.items())), (self._read,))
        streams = {name: Stream(self._builder, Input(id, name)) for name in branches}
        return {**streams, "rest": Stream(self._builder, Input(id))}

    def key_by(
        self, *keys: IntoExpr | Callable[[Any], Any], null_keys: Literal["fail", "group"] = "fail"
    ) -> KeyedStream:
        """Partition by columns, expressions or a function of one row.

        Null keys are refused with an error; with `null_keys="group"` null is a key like any other.
        """
        from streamflow.api.keyed import keyed_stream

        return keyed_stream(self, keys, null_keys)

    # Words about the operator before.

    def named(self, name: str) -> Self:
        """The operator that gives this stream is called `name`: in plans, metrics and checkpoints."""
        self._builder.rename(self._read.node, name)
        renamed = copy(self)
        renamed._read = replace(self._read, node=name)
        return renamed

    def parallel(self, subtasks: int) -> Stream:
        """The operator that gives this stream runs in so many subtasks."""
        if subtasks < 1:
            raise JobDefinitionError(
                f"parallelism {subtasks}", where=Where(operator=self._read.node), hint="it must be at least 1"
            )
        self._builder.change(self._read.node, parallelism=subtasks)
        return self

    def on_error(self, policy: Literal["fail", "skip"] | Sink) -> Stream:
        """What happens to a record for which the operator that gives this stream fails: `"fail"` stops the job,
        `"skip"` counts it, a sink gets it with its reason and origin."""
        id = self._read.node
        chosen: ErrorPolicy
        if isinstance(policy, Sink):
            chosen = "dead_letter"
        elif policy in ("fail", "skip"):
            chosen = policy
        else:
            message, hint = unknown_name("error policy", str(policy), ["fail", "skip"])
            raise JobDefinitionError(message, where=Where(operator=id), hint=hint)
        node = self._builder.node(id)
        if isinstance(node, SourceNode):
            timestamps = None if node.timestamps is None else _with_policy(id, node.timestamps, chosen)
            self._builder.change(id, on_error=chosen, timestamps=timestamps)
        elif isinstance(node, OperatorNode):
            self._builder.change(id, spec=_with_policy(id, node.spec, chosen))
        if isinstance(policy, Sink):
            self._builder.add_sink(policy, Input(id, ERRORS))
        return self

    # Writing.

    def write(self, sink: Sink) -> Stream:
        """Hand every record to a sink; the stream itself can be used further."""
        if not isinstance(sink, Sink):
            raise JobDefinitionError(f"write got {sink!r}", hint="give a sink, like sf.ConsoleSink()")
        self._builder.add_sink(sink, self._read)
        return self

    def collect(self) -> Collected:
        """Every record in memory, to be read after the run.

        Exactly once within one process, restarts included. A new process that goes on from a checkpoint has what
        comes behind it; what came before was in the memory of the other.
        """
        collected = Collected()
        self._builder.add_sink(CollectSink(collected), self._read)
        return collected

    def apply(self, spec: OperatorSpec) -> Stream:
        """The stream through any operator: what the other methods do with the operators they know."""
        return Stream(self._builder, self.add(spec))

    def add(self, spec: OperatorSpec) -> Input:
        """Put an operator behind this stream; where its output is read."""
        return Input(self._builder.add_operator(spec, (self._read,)))

    @property
    def builder(self) -> GraphBuilder:
        """The graph that this stream belongs to."""
        return self._builder

    @property
    def read(self) -> Input:
        """The output that this stream stands for."""
        return self._read

    @property
    def operator(self) -> str:
        """The id of the operator that gives this stream."""
        return self._read.node


def _expressions(positional: tuple[IntoExpr, ...], named: dict[str, IntoExpr]) -> tuple[pl.Expr, ...]:
    listed = [pl.col(e) if isinstance(e, str) else e for e in positional]
    listed += [(pl.col(e) if isinstance(e, str) else _literal(e)).alias(name) for name, e in named.items()]
    for expression in listed:
        if not isinstance(expression, pl.Expr):
            raise JobDefinitionError(f"{expression!r} is no column and no expression")
    return tuple(listed)


def _literal(value: Any) -> pl.Expr:
    return value if isinstance(value, pl.Expr) else pl.lit(value)


def _with_policy(id: str, spec: OperatorSpec, policy: ErrorPolicy) -> OperatorSpec:
    if isinstance(spec, Functions):
        return Functions(tuple(replace(step, on_error=policy, name=id) for step in spec.steps))
    if not hasattr(spec, "on_error"):
        raise JobDefinitionError(
            f"{spec.kind} has no records that could fail",
            where=Where(operator=id),
            hint="call on_error right after the function, expression or read that may fail",
        )
    return replace(spec, on_error=policy)  # type: ignore[type-var]
