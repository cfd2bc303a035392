"""`WindowedStream`: a keyed stream cut into windows, and `AggregatedStream`: its results and its late records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from streamflow.api.stream import Stream
from streamflow.errors import JobDefinitionError, Where
from streamflow.graph.logical import Input, OperatorNode
from streamflow.operators.base import LATE
from streamflow.operators.extract import Extract
from streamflow.operators.windowing import WindowAggregateSpec
from streamflow.records.schema import OBJECTS, Schema
from streamflow.windows.accumulators import pack, unpack
from streamflow.windows.aggregates import Aggregate, collect_list, reduce, top_k
from streamflow.windows.assigners import Assigner

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder
    from streamflow.api.keyed import KeyedStream

__all__ = ["AggregatedStream", "WindowedStream", "aggregate_inputs", "field_of", "reduction"]

_WHOLE: Final = "__record"


class AggregatedStream(Stream):
    """Window results: keys, `window_start`, `window_end`, the aggregates. Event time is the window's last moment."""

    def __init__(self, builder: GraphBuilder, read: Input, columns: tuple[str, ...] | None) -> None:
        """`columns`: a record's own, without those that were made to key and aggregate it; None for objects."""
        super().__init__(builder, read)
        self._columns = columns

    @property
    def late(self) -> Stream:
        """The records that were too late for every one of their windows, as they came in."""
        node = self._builder.node(self._read.node)
        assert isinstance(node, OperatorNode)
        assert isinstance(node.spec, WindowAggregateSpec)
        self._builder.change(node.id, spec=replace(node.spec, late_used=True))
        if self._columns is None:
            self._keep_objects(node.inputs[0])
        late = Stream(self._builder, Input(node.id, LATE))
        if self._columns is None:
            return late.map(_kept, schema=OBJECTS)
        schema = late.schema
        return (
            late
            if isinstance(schema, Schema) and tuple(schema) == self._columns
            else late.select(*self._columns)
        )

    def _keep_objects(self, read: Input) -> None:
        """Whole objects go along as a column beside what was extracted of them."""
        node = self._builder.node(read.node)
        assert isinstance(node, OperatorNode)
        assert isinstance(node.spec, Extract)
        if _WHOLE not in dict(node.spec.columns):
            spec = replace(node.spec, columns=(*node.spec.columns, (_WHOLE, _packed)))
            inputs = [self._builder.graph.type_of(each) for each in node.inputs]
            self._builder.change(node.id, spec=spec, type=spec.output_type(inputs))


@dataclass(frozen=True)
class WindowedStream:
    """Windows per key; made by `KeyedStream.window`."""

    keyed: KeyedStream
    assigner: Assigner
    allowed_lateness: int
    accumulation: Literal["accumulating", "discarding", "retracting"]
    pane_info: bool = False

    def aggregate(self, **aggregates: Aggregate) -> AggregatedStream:
        """Several aggregates per key and window at once, each under its own name."""
        stream, prepared = self.keyed.columns(aggregates)
        spec = WindowAggregateSpec(
            keys=self.keyed.keys,
            assigner=self.assigner,
            aggregates=prepared,
            allowed_lateness=self.allowed_lateness,
            accumulation=self.accumulation,
            late_used=False,
            null_keys=self.keyed.null_keys,
            pane_info=self.pane_info,
        )
        return AggregatedStream(stream.builder, stream.add(spec), self.keyed.record_columns)

    def reduce(self, function: Callable[[Any, Any], Any]) -> Stream:
        """The records of a key and window combined two by two; the column `value` holds the result. The function is
        to give the same whatever the order."""
        aggregate, unpack = reduction(self.keyed.stream, function)
        return unpack(self.aggregate(value=aggregate))

    def collect_list(self, input: str | pl.Expr | Callable[[Any], Any]) -> AggregatedStream:
        """The values of a key and window as a list, in event-time order; the column `values`."""
        return self.aggregate(values=collect_list(input))

    def top_k(self, k: int, by: str | pl.Expr | Callable[[Any], Any]) -> AggregatedStream:
        """The k largest values of `by` in each key and window; the column `top`."""
        return self.aggregate(top=top_k(by, k))


def reduction(
    stream: Stream, function: Callable[[Any, Any], Any]
) -> tuple[Aggregate, Callable[[Stream], Stream]]:
    """The aggregate that reduces whole records of a stream, and what turns its results into records again."""
    schema = stream.schema
    if isinstance(schema, Schema):
        names = list(schema)
        whole = pl.col(names[0]) if len(names) == 1 else pl.struct(names)
        return reduce(function, whole), lambda results: results
    # Objects cross exchanges and enter state as msgpack.
    return reduce(function, _packed, packed=True), lambda results: results.map(_unpacked, schema=OBJECTS)


def _packed(record: Any) -> bytes:
    return pack(record)


def _kept(row: dict[str, Any]) -> Any:
    return unpack(row[_WHOLE])


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "value": unpack(row["value"])}


def aggregate_inputs(
    aggregates: dict[str, Aggregate], *, objects: bool
) -> tuple[tuple[tuple[str, Callable[[Any], Any]], ...], tuple[tuple[str, Aggregate], ...]]:
    """Inputs that are functions (and fields of objects) as columns to be made, and the aggregates over them."""
    if not aggregates:
        raise JobDefinitionError(
            "aggregate without an aggregate", hint="give some, like total=sf.sum('value')"
        )
    made: list[tuple[str, Callable[[Any], Any]]] = []
    prepared: list[tuple[str, Aggregate]] = []
    for name, aggregate in aggregates.items():
        if not isinstance(aggregate, Aggregate):
            raise JobDefinitionError(
                f"{name}={aggregate!r} is no aggregate", hint="give one like sf.count() or sf.sum('value')"
            )
        function = aggregate.function
        if function is None and objects and isinstance(aggregate.input, str):
            function = field_of(aggregate.input)
        elif function is None and objects and isinstance(aggregate.input, pl.Expr):
            raise JobDefinitionError(
                f"{name} aggregates an expression, and this stream holds Python objects",
                where=Where(operator="aggregate"),
                hint="give a field's name or a function of the record",
            )
        if function is not None:
            column = f"__in{len(made)}"
            made.append((column, function))
            aggregate = aggregate.with_input(pl.col(column))
        prepared.append((name, aggregate))
    return tuple(made), tuple(prepared)


def field_of(name: str) -> Callable[[Any], Any]:
    """The function that gives one field of an object."""

    def field(row: Any) -> Any:
        return row[name]

    return field
