"""`WindowedStream`: a keyed stream cut into windows, and `AggregatedStream`: its results and its late records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import isfunction
from typing import TYPE_CHECKING, Any, Final, Literal, Never, Self

import polars as pl

from streamflow.api.object_fields import field_of
from streamflow.api.other_names import AGGREGATES, missing
from streamflow.api.shortcuts import Shortcuts
from streamflow.api.stream import Stream, added, builder_of, read_of, through
from streamflow.core.schema import OBJECTS, Schema, StreamSchema
from streamflow.errors import JobDefinitionError, Where, represented
from streamflow.graph.logical import Input, OperatorNode
from streamflow.operators.aggregates.combiner import Timestamp
from streamflow.operators.contract.operator import LATE
from streamflow.operators.contract.sink import Sink
from streamflow.operators.stateless.columns import chosen, roots
from streamflow.operators.stateless.extract import Extract
from streamflow.operators.stateless.user_functions import as_record, check_function, check_gives, on_rows
from streamflow.operators.windows.applied import PANE_RECORDS, ApplyPanes
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.windows.accumulators import pack, unpack
from streamflow.windows.aggregate import AggregateInput
from streamflow.windows.aggregates import Aggregate, collect_list, count, reduce, top_k
from streamflow.windows.assigners import Assigner
from streamflow.windows.kept_values import TopK
from streamflow.windows.python_functions import Aggregator
from streamflow.windows.triggers import Trigger

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder
    from streamflow.api.keying import Keying

__all__ = [
    "AggregatedStream",
    "AppliedStream",
    "UnpackedStream",
    "WindowedStream",
    "aggregate_inputs",
    "check_aggregator",
    "reduction",
]

_WHOLE: Final = "__record"
_LONGEST_NAME: Final = 63
_METHODS: Final = {"create": 0, "add": 2, "merge": 2, "result": 1}
"""Method names of an Aggregator, each with its number of arguments."""
_ELSEWHERE: Final = {
    **AGGREGATES,
    "agg": "aggregate(total=sf.sum(…), …)",
    "map": "apply(function), which gets a window's records as a DataFrame",
    "filter": "filter(…) before key_by(…), or of the result of aggregate(…)",
    "process": "aggregate(…) with an sf.Aggregator, or process(…) of the keyed stream with timers",
    "collect": "aggregate(…) first, or collect_list(column)",
    "write": "aggregate(…) first",
    "late": ".late of the result of aggregate(…)",
    "allowed_lateness": "window(…, allowed_lateness=…)",
    "trigger": "window(…, trigger=…)",
    "triggering": "window(…, trigger=…)",
    "fold": "reduce(function), or aggregate(…) with an sf.Aggregator",
    "suppress": "no trigger: a window puts out one result, when it closes",
    "len": "count()",
    "size": "count()",
}


class AggregatedStream(Stream):
    """Window results: keys, `window_start`, `window_end`, the aggregates. Event time is the window's last moment."""

    def __init__(self, builder: GraphBuilder, read: Input, columns: tuple[str, ...] | None) -> None:
        """`columns` are the record's own, without columns made for keys and aggregates; None for objects."""
        super().__init__(builder, read)
        self._columns = columns

    @property
    def late(self) -> Stream:
        """The records too late for every one of their windows, unchanged."""
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
        """Carries whole objects along as a column beside the columns extracted from them."""
        node = self._builder.node(read.node)
        assert isinstance(node, OperatorNode)
        assert isinstance(node.spec, Extract)
        if _WHOLE not in dict(node.spec.columns):
            spec = replace(node.spec, columns=(*node.spec.columns, (_WHOLE, _packed)))
            inputs = [self._builder.graph.type_of(each) for each in node.inputs]
            self._builder.change(node.id, spec=spec, type=spec.output_type(inputs))


class _MadeOfResults(Stream):
    """The output of an operator behind an aggregating one.

    A call about the operator before it (`named`, `on_error`, …) is about the aggregating one.
    """

    def __init__(self, results: Stream, made: Stream, suffix: str) -> None:
        """`suffix`: added to the name of the aggregating operator for that of the other one."""
        super().__init__(builder_of(made), read_of(made))
        self._results = results
        self._suffix = suffix

    def named(self, name: str) -> Self:
        results = self._results.named(name)
        renamed = super().named(f"{name[: _LONGEST_NAME - len(self._suffix)]}{self._suffix}")
        renamed._results = results
        return renamed

    def parallel(self, subtasks: int) -> Stream:
        self._results.parallel(subtasks)
        return super().parallel(subtasks)

    def on_error(self, policy: Literal["fail", "skip"] | Sink) -> Stream:
        self._results.on_error(policy)
        return self

    @property
    def late(self) -> Stream:
        """The records too late for every one of their windows, unchanged."""
        if not isinstance(self._results, AggregatedStream):
            raise JobDefinitionError(
                "nothing is late without a window", hint="call window(…) before reduce(…)"
            )
        return self._results.late


class UnpackedStream(_MadeOfResults):
    """The results of `reduce` over objects."""

    def __init__(self, results: Stream) -> None:
        super().__init__(results, results.map(_unpacked, schema=OBJECTS), "-objects")


class AppliedStream(_MadeOfResults):
    """The rows that a function gave for the records of each window."""

    def __init__(self, results: Stream, spec: ApplyPanes) -> None:
        super().__init__(results, through(results, spec), "-apply")


class WindowedStream(Shortcuts[AggregatedStream]):
    """Windows per key; made by `KeyedStream.window`."""

    def __init__(
        self,
        keying: Keying,
        assigner: Assigner,
        *,
        trigger: Trigger | None,
        allowed_lateness: int,
        accumulation: Literal["accumulating", "discarding", "retracting"],
        pane_info: bool,
        timestamp: Timestamp,
    ) -> None:
        self._keying = keying
        self._assigner = assigner
        self._trigger = trigger
        self._allowed_lateness = allowed_lateness
        self._accumulation: Literal["accumulating", "discarding", "retracting"] = accumulation
        self._pane_info = pane_info
        self._timestamp: Timestamp = timestamp

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            raise missing("WindowedStream", name, _ELSEWHERE, dir(type(self)))

    def aggregate(self, **aggregates: Aggregate) -> AggregatedStream:
        """Several aggregates per key and window at once, each under its own name."""
        keying = self._keying
        stream, prepared = keying.columns(aggregates)
        spec = WindowAggregateSpec(
            keys=keying.keys,
            assigner=self._assigner,
            trigger=self._trigger,
            aggregates=prepared,
            allowed_lateness=self._allowed_lateness,
            accumulation=self._accumulation,
            late_used=False,
            null_keys=keying.null_keys,
            pane_info=self._pane_info,
            timestamp=self._timestamp,
        )
        return AggregatedStream(builder_of(stream), added(stream, spec), keying.record_columns)

    def reduce(self, function: Callable[[Any, Any], Any]) -> Stream:
        """The records of a key and window combined two by two; the column `value` holds the result.

        The function has to give the same result in any order. An error of the function fails the job: `on_error` is
        about single records, their keys and their values.
        """
        results = self.aggregate(value=reduction(self._keying.record_schema, function))
        return results if isinstance(self._keying.record_schema, Schema) else UnpackedStream(results)

    def apply(
        self, function: Callable[[pl.DataFrame], pl.DataFrame], *, schema: dict[str, Any] | None = None
    ) -> AppliedStream:
        """The rows that a function gives for the records of each key and window, one DataFrame in order of event time.

        Results carry the keys and the window's bounds in front, except for those that the function gives itself. Its
        columns are found by calling it with no records, or given by `schema`. It is called again for a window that
        fires again; with `accumulation="retracting"` the rows of the earlier call are deleted. An error of the function
        fails the job. Raises JobDefinitionError for a stream of objects.

        >>> import streamflow as sf
        >>> job = sf.Job("spread")
        >>> rows = [{"ts": 1, "k": "a", "v": 3}, {"ts": 2, "k": "a", "v": 8}]
        >>> read = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"))
        >>> windows = read.key_by("k").window(sf.tumbling("10s"))
        >>> out = windows.apply(lambda records: records.select("v", diff=sf.col("v").diff())).collect()
        >>> _ = job.run()
        >>> out.frame().select("k", "v", "diff").rows()
        [('a', 3, None), ('a', 8, 5)]
        """
        check_gives(function, "apply")
        records = self._keying.record_schema
        if not isinstance(records, Schema):
            raise JobDefinitionError(
                "apply needs columns, and this stream holds Python objects",
                where=Where(operator="apply"),
                hint="give the source a schema=, or the function before a return annotation",
            )
        declared = None if schema is None else Schema(schema)
        whole = collect_list(pl.struct(list(records)))
        results = self.aggregate(**{PANE_RECORDS: whole})
        return AppliedStream(results, ApplyPanes(function, records, declared))

    def collect_list(self, input: str | pl.Expr | Callable[[Any], Any]) -> AggregatedStream:
        """The values of a key and window as a list, in event-time order; the column `values`."""
        return self.aggregate(values=collect_list(input))

    def top_k(self, k: int, by: str | pl.Expr | Callable[[Any], Any]) -> AggregatedStream:
        """The k largest values of `by` in each key and window; the column `top`."""
        return self.aggregate(top=top_k(by, k))


def reduction(schema: StreamSchema, function: Callable[[Any, Any], Any]) -> Aggregate:
    """The aggregate that reduces whole records of a stream; results of objects come out packed."""
    check_gives(function, "reduce", arguments=2)
    if isinstance(schema, Schema):
        called = on_rows(function, schema, "reduce", arguments=2)

        @wraps(called, updated=())
        def reduced(left: Any, right: Any) -> Any:
            return as_record(called(left, right))

        return reduce(reduced, pl.struct(list(schema)))
    # Objects cross exchanges and enter state as msgpack.
    return reduce(function, _packed, packed=True)


def _packed(record: Any) -> bytes:
    return pack(record)


def _kept(row: dict[str, Any]) -> Any:
    return unpack(row[_WHOLE])


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "value": unpack(row["value"])}


def aggregate_inputs(
    aggregates: dict[str, Aggregate], schema: StreamSchema
) -> tuple[tuple[tuple[str, Callable[[Any], Any] | pl.Expr], ...], tuple[tuple[str, Aggregate], ...]]:
    """Columns to be made of inputs that are functions, fields of objects or constants, and the aggregates over them."""
    if not aggregates:
        raise JobDefinitionError(
            "aggregate without an aggregate", hint="give some, like total=sf.sum('value')"
        )
    taken = frozenset(schema) if isinstance(schema, Schema) else frozenset[str]()
    made: list[tuple[str, Callable[[Any], Any] | pl.Expr]] = []
    prepared: list[tuple[str, Aggregate]] = []
    for name, aggregate in aggregates.items():
        if not isinstance(aggregate, Aggregate):
            raise JobDefinitionError(
                f"{name}={represented(aggregate)} is no aggregate", hint=_meant(aggregate)
            )
        if isinstance(aggregate, Aggregator):
            check_aggregator(aggregate)
        function = _to_be_made(name, aggregate.input, schema)
        if function is not None:
            made.append((_column(name, function, taken), function))
            aggregate = aggregate.with_input(pl.col(made[-1][0]))
        by = _to_be_made(name, aggregate.by, schema) if isinstance(aggregate, TopK) else None
        if by is not None:
            assert isinstance(aggregate, TopK)
            made.append((_column(f"{name} by", by, taken), by))
            aggregate = aggregate.with_by(pl.col(made[-1][0]))
        prepared.append((name, aggregate))
    return tuple(made), tuple(prepared)


def _meant(given: Any) -> str:
    """The hint for what was given in place of an aggregate."""
    own = ", or an instance of a class derived from sf.Aggregator" if callable(given) else ""
    if isfunction(given) and given.__module__ == count.__module__:
        return f"call it: sf.{given.__name__}(…)"
    if isinstance(given, type) and issubclass(given, Aggregator):
        return f"give an instance: {given.__name__}('value')"
    return f"give one like sf.count() or sf.sum('value'){own}"


def check_aggregator(aggregator: Aggregator) -> None:
    """Refuses an Aggregator with a method that cannot be called, or returns nothing."""
    for method, arguments in _METHODS.items():
        # An accumulator may begin with None.
        check = check_function if method == "create" else check_gives
        check(getattr(aggregator, method), f"{aggregator.label}.{method}", arguments=arguments)


def _column(what: str, made_by: Callable[[Any], Any] | pl.Expr, taken: frozenset[str]) -> str:
    """A name for a made column that no other column has. State is matched by this name: it says use and origin."""
    name = f"__{what}: {made_by if isinstance(made_by, pl.Expr) else getattr(made_by, '__name__', '')}"
    while name in taken:
        name += "_"
    return name


def _to_be_made(
    name: str, input: AggregateInput, schema: StreamSchema
) -> Callable[[Any], Any] | pl.Expr | None:
    """The function or expression that makes a column of an input; None if the input is a column."""
    objects = not isinstance(schema, Schema)
    if isinstance(input, pl.Expr):
        if not isinstance(schema, Schema):
            raise JobDefinitionError(
                f"{name} aggregates an expression, and this stream holds Python objects",
                where=Where(operator="aggregate"),
                hint="give a field's name or a function of the record",
            )
        if input.meta.has_multiple_outputs():
            columns = chosen(input, schema)
            if len(columns) == 1:
                return pl.col(columns[0])
            raise JobDefinitionError(
                f"{name} aggregates {input}, which is not one column",
                where=Where(operator="aggregate"),
                hint="aggregate each under a name of its own",
            )
        # Polars would take a constant once for a group, not once for a record.
        return input if roots(input) == frozenset() else None
    if isinstance(input, str):
        return field_of(input) if objects else None
    if input is not None:
        check_function(input, f"the input of {name}")
        return on_rows(input, schema, f"the input of {name}")
    return None
