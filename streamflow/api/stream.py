"""`Stream`: records on their way. Each method adds one node to the job's graph and returns a new stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Never, Self, cast

import polars as pl

from streamflow.api.choosing import Choosing
from streamflow.api.other_names import STREAM, missing
from streamflow.arguments import flag, whole_number
from streamflow.arguments import names as check_names
from streamflow.core.html_table import html_table
from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema, StreamSchema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, Where, unknown_name
from streamflow.graph.logical import Input, OperatorNode, SourceNode, inputs_of
from streamflow.operators.connectors.collect import Collected, CollectSink
from streamflow.operators.contract.operator import ERRORS, ErrorPolicy, OperatorSpec, own_output
from streamflow.operators.contract.sink import Sink
from streamflow.operators.requests.map_async import Backoff, MapAsync
from streamflow.operators.stateless.columns import Drop, Explode, Rename, Select, WithColumns
from streamflow.operators.stateless.declared_schema import declared_schema
from streamflow.operators.stateless.extract import Extract
from streamflow.operators.stateless.frames import MapBatches
from streamflow.operators.stateless.functions import Functions, Step
from streamflow.operators.stateless.lone_halves import HALVES, of_lone_rows
from streamflow.operators.stateless.routing import SplitBy, Union
from streamflow.operators.stateless.user_functions import check_function, check_gives, on_rows, row_maker
from streamflow.time.timestamps import Duration, parse_duration

if TYPE_CHECKING:
    from streamflow.api.builder import GraphBuilder
    from streamflow.api.joined import JoinedStream, Keys, Strategy
    from streamflow.api.keyed import KeyedStream
    from streamflow.api.tables import Table
    from streamflow.api.windowed import WindowedStream
    from streamflow.operators.joins.sides import How
    from streamflow.windows.assigners import Assigner
    from streamflow.windows.triggers import Trigger

__all__ = ["Stream", "added", "builder_of", "has_end", "read_of", "through"]

IntoExpr = str | pl.Expr


class Stream(Choosing):
    """A stream of records: columns where its schema is known, Python objects otherwise."""

    def __init__(self, builder: GraphBuilder, read: Input) -> None:
        self._builder = builder
        self._given = read

    @property
    def _read(self) -> Input:
        """The output that the stream stands for; its operator may have been renamed since."""
        return self._builder.current(self._given)

    def __repr__(self) -> str:
        return f"Stream({self._read.node}: {self.schema!r})"

    @property
    def type(self) -> StreamType:
        """The stream's columns and whether its records have event times."""
        return self._builder.graph.type_of(self._read)

    @property
    def schema(self) -> object:
        """The stream's columns and their types, or OBJECTS."""
        return self.type.schema

    # Columns.

    def filter(self, predicate: pl.Expr | Callable[[Any], object]) -> Stream:
        """Keeps the records for which an expression, or a function of one row, is true."""
        from streamflow.api.filtering import filtered

        return filtered(self, predicate)

    def select(self, *expressions: IntoExpr, **named: IntoExpr) -> Stream:
        """These columns and no others; event time stays."""
        return self._through(Select(expressions=_expressions(expressions, named)))

    def with_columns(self, *expressions: IntoExpr, **named: IntoExpr) -> Stream:
        """All columns, some of them new or replaced."""
        return self._through(WithColumns(expressions=_expressions(expressions, named)))

    def rename(self, names: dict[str, str]) -> Stream:
        """Columns under other names, old to new."""
        given: object = names
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in names.values()):
            raise JobDefinitionError(f"rename got {names!r}", hint='write {"old": "new"}')
        check_names([*names, *names.values()], "the names")
        return self._through(Rename(names=tuple(names.items())))

    def drop(self, *names: str) -> Stream:
        """All columns but these."""
        check_names(names, "the columns to drop")
        return self._through(Drop(names=names))

    def explode(self, *names: str) -> Stream:
        """One record for each element of the lists in these columns: none for an empty list, one for a null.

        The lists of several columns are of one length in each record, or all null; another record is a bad one.
        """
        check_names(names, "the columns to explode")
        names = tuple(dict.fromkeys(names))
        if not names:
            raise JobDefinitionError("explode without a column", hint='give some, like explode("items")')
        return self._through(Explode(names=names, changing=self._has_kinds))

    def map_batches(
        self, function: Callable[[pl.DataFrame], pl.DataFrame], *, schema: dict[str, Any] | None = None
    ) -> Stream:
        """A function from DataFrame to DataFrame.

        The function sees event time as the column `__event_time` and has to keep it for the stream to keep it. The
        result's columns come from running it on an empty frame, unless `schema` says them; a batch for which the
        function gives other columns or types is an error.
        """
        check_gives(function, "map_batches")
        return self._through(MapBatches(function, None if schema is None else Schema(schema)))

    # Python functions.

    def map(self, function: Callable[[Any], Any], *, schema: object = None) -> Stream:
        """A function of one row: a dict, or the dataclass or NamedTuple that its parameter is annotated with, or the
        object.

        The return annotation or `schema` says the columns of the result, which is checked against them; without
        either the stream holds objects.
        """
        return self._call("map", function, schema)

    def flat_map(self, function: Callable[[Any], Iterable[Any]], *, schema: object = None) -> Stream:
        """A function that gives any number of records for one row: it returns a list, or yields them."""
        return self._call("flat_map", function, schema)

    def _call(
        self, kind: Literal["map", "flat_map"], function: Callable[[Any], Any], schema: object
    ) -> Stream:
        check_gives(function, kind, "generator" if kind == "flat_map" else "plain")
        columns = self._with_kinds(declared_schema(schema, function, flat=kind == "flat_map", what=kind))
        function = on_rows(function, self.type.schema, kind)
        if kind == "flat_map" and self.type.changes:
            # The halves of an update may give records of any number.
            function = of_lone_rows(function)
        return self._through(Functions((Step(kind, function, columns),)))

    @property
    def _has_kinds(self) -> bool:
        """Whether its records are changes, and a column says of which kind."""
        return bool(self.type.changes) and isinstance(self.schema, Schema) and CHANGE in self.schema

    def _with_kinds(self, columns: StreamSchema) -> StreamSchema:
        """The columns of a function's results; of changes, a text `change` is the kind, and another text an error of
        the record."""
        if not self.type.changes or not isinstance(columns, Schema) or columns.get(CHANGE) != pl.String():
            return columns
        return Schema({**columns, CHANGE: CHANGE_TYPE})

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
        """A coroutine function of one row, with up to `capacity` calls at once; each attempt may take `timeout`.

        It may be an object with a coroutine method `__call__`, and with `open` and `close`, for an HTTP session for
        example. Each subtask works with a copy of the object and calls `open` first and `close` last.

        >>> class Lookup:
        ...     async def open(self):
        ...         self.names = {1: "one"}
        ...     async def __call__(self, row):
        ...         return self.names.get(row["n"])
        ...     async def close(self):
        ...         del self.names
        >>> import streamflow as sf
        >>> job = sf.Job("names")
        >>> out = job.read(sf.MemorySource([{"n": 1}])).map_async(Lookup(), retries=sf.backoff(3)).collect()
        >>> _ = job.run()
        >>> out.rows()
        ['one']
        """
        whole_number(capacity, "capacity")
        flag(ordered, "ordered")
        if retries is not None and not isinstance(retries, Backoff):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise JobDefinitionError(f"retries is {retries!r}", hint="write sf.backoff(3)")
        check_function(function, "map_async", "coroutine")
        spec = MapAsync(
            function=function,
            make_row=row_maker(function, self.type.schema, "map_async"),
            schema=self._with_kinds(declared_schema(schema, function, what="map_async")),
            capacity=capacity,
            ordered=ordered,
            timeout=parse_duration(timeout, what="timeout", positive=True),
            retries=retries or Backoff(0),
        )
        return self._through(spec)

    # Routing.

    def union(self, *others: Stream) -> Stream:
        """All records of this stream and of others, which must have the same columns."""
        for other in others:
            if not isinstance(other, Stream):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise JobDefinitionError(f"union got {other!r}", hint="give streams")
            if other._builder is not self._builder:
                raise JobDefinitionError("a union of streams of two jobs", hint="read both in one sf.Job")
        reads = (self._read, *(other._read for other in others))
        return Stream(self._builder, Input(self._builder.add_operator(Union(), reads)))

    def join(
        self,
        other: Stream | Table | pl.DataFrame,
        on: Keys | None = None,
        *,
        left_on: Keys | None = None,
        right_on: Keys | None = None,
        how: How = "inner",
        window: Assigner | None = None,
        within: tuple[Duration, Duration] | None = None,
        strategy: Strategy = "auto",
        suffix: str = "_right",
        ttl: Duration | None = None,
        salt: int = 1,
    ) -> JoinedStream:
        """Rows with equal keys of this stream and another, a table or a DataFrame.

        `window=sf.tumbling(…)`, sliding, cumulative, calendar or session ones: rows in the same window, when it closes.
        `within=("-5m", "1m")`: the other's event time within that distance of this one's, as soon as both are there. A
        table gives the row of the key, versioned as of this stream's event time; one that ends is read first. A
        DataFrame is looked up where the stream is read. Otherwise all rows of both sides join, for ever or for `ttl`,
        with changes where a row of the result may go again.

        `how`: "inner", "left", "right", "outer", "semi", "anti"; null keys match nothing. Keys are columns, `on` or
        `left_on` and `right_on`; of other columns that both have, the other's gets `suffix`. A null side, or a row of
        "semi" and "anti", comes when the watermark says that no match can come. `strategy="broadcast"` puts a small
        other side that ends into every subtask. `salt=8` spreads the rows of each key over eight, so that a hot key
        does not fill one subtask; the other side's rows are kept eight times. Raises JobDefinitionError where the two
        do not fit.

        >>> import polars as pl, streamflow as sf
        >>> job = sf.Job("orders")
        >>> orders = job.read(sf.MemorySource([{"item": "a", "n": 3}, {"item": "b", "n": 1}]))
        >>> prices = pl.DataFrame({"item": ["a"], "price": [5]})
        >>> priced = orders.join(prices, on="item", how="left").collect()
        >>> _ = job.run()
        >>> priced.rows()
        [{'item': 'a', 'n': 3, 'price': 5}, {'item': 'b', 'n': 1, 'price': None}]
        """
        from streamflow.api.joined import joined

        return joined(
            self,
            other,
            on,
            left_on,
            right_on,
            how=how,
            window=window,
            within=within,
            strategy=strategy,
            suffix=suffix,
            ttl=ttl,
            salt=salt,
        )

    def join_asof(
        self,
        other: Stream | Table,
        on: Keys | None = None,
        *,
        left_on: Keys | None = None,
        right_on: Keys | None = None,
        how: How = "left",
        tolerance: Duration | None = None,
        suffix: str = "_right",
        salt: int = 1,
    ) -> JoinedStream:
        """Each row with the other's latest row of the same key at its event time, not older than `tolerance`.

        A row waits until the watermark of both sides has passed it. `how`: "left", "inner", "semi", "anti". `salt`
        spreads a hot key, as in `join`.

        >>> from datetime import datetime
        >>> import polars as pl, streamflow as sf
        >>> job = sf.Job("trades")
        >>> def at(*minutes):
        ...     return [datetime(2024, 1, 1, 9, minute) for minute in minutes]
        >>> trades = pl.DataFrame({"of": ["a", "a"], "at": at(3, 9)})
        >>> quotes = pl.DataFrame({"of": ["a", "a"], "at": at(1, 8), "bid": [10, 12]})
        >>> read = [job.read(sf.MemorySource(frame), event_time="at") for frame in (trades, quotes)]
        >>> priced = read[0].join_asof(read[1], on="of", tolerance="5m").collect()
        >>> _ = job.run()
        >>> [row["bid"] for row in priced.rows()]
        [10, 12]
        """
        from streamflow.api.joined import joined_as_of

        return joined_as_of(
            self, other, on, left_on, right_on, how=how, tolerance=tolerance, suffix=suffix, salt=salt
        )

    def to_table(
        self,
        key: str | Sequence[str],
        *,
        deleted: pl.Expr | None = None,
        versioned: bool = False,
    ) -> Table:
        """The latest row of each key, as a table to join with; see `Job.table`.

        `versioned`: with its history by event time, looked up as of a stream's; otherwise the last row to arrive
        counts. `deleted` is true for a row that says that its key is gone. Of a changing result the table holds what
        stands.
        """
        from streamflow.api.tables import table_of

        return table_of(self, key, deleted, versioned=versioned)

    def split(self, **branches: pl.Expr) -> dict[str, Stream]:
        """Sends each record to the first branch whose expression is true, and the rest to the stream called `rest`."""
        if "rest" in branches:
            raise JobDefinitionError(
                "a branch is called 'rest'", hint="that is the name of the branch for all other records"
            )
        for name, branch in branches.items():
            if not isinstance(branch, pl.Expr):
                raise JobDefinitionError(
                    f"branch {name!r} got {branch!r}",
                    hint="give an expression like col('x') > 1; a function is for filter(…), once for each branch",
                )
        if not branches:
            raise JobDefinitionError(
                "split without a branch", hint="give some, like split(large=col('x') > 1)"
            )
        id = self._builder.add_operator(SplitBy(branches=tuple(branches.items())), (self._read,))
        streams = {name: Stream(self._builder, Input(id, own_output(name))) for name in branches}
        return {**streams, "rest": Stream(self._builder, Input(id))}

    def key_by(
        self, *keys: IntoExpr | Callable[[Any], Any], null_keys: Literal["fail", "group"] = "fail"
    ) -> KeyedStream:
        """Partitions the stream by columns, expressions or a function of one row.

        Null keys are refused with an error; with `null_keys="group"` null is a key like any other.
        """
        from streamflow.api.keyed import keyed_stream

        return keyed_stream(self, keys, null_keys)

    def window(
        self,
        assigner: Assigner,
        *,
        trigger: Trigger | None = None,
        allowed_lateness: Duration = "0s",
        accumulation: Literal["accumulating", "discarding", "retracting"] = "accumulating",
        pane_info: bool = False,
        timestamp: Literal["end", "earliest", "latest"] = "end",
    ) -> WindowedStream:
        """Cuts all records into windows by event time, without a key; one subtask computes their results.

        The arguments are those of `KeyedStream.window`.

        >>> import streamflow as sf
        >>> job = sf.Job("counts")
        >>> rows = sf.MemorySource([{"at": "2024-01-01T00:00:01"}, {"at": "2024-01-01T00:00:02"}])
        >>> at = sf.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%S", time_zone="UTC")
        >>> events = job.read(rows, event_time=at)
        >>> counts = events.window(sf.tumbling("1m")).count().collect()
        >>> _ = job.run()
        >>> counts.frame()["count"].to_list()
        [2]
        """
        from streamflow.api.keyed import keyless

        return keyless(self).window(
            assigner,
            trigger=trigger,
            allowed_lateness=allowed_lateness,
            accumulation=accumulation,
            pane_info=pane_info,
            timestamp=timestamp,
        )

    # Settings of the operator before.

    def named(self, name: str) -> Self:
        """Names the operator that gives this stream, in plans, metrics and checkpoints."""
        self._builder.rename(self._read.node, name)
        renamed = copy(self)
        renamed._given = replace(self._read, node=name)
        return renamed

    def parallel(self, subtasks: int) -> Stream:
        """Sets the number of subtasks of the operator that gives this stream."""
        whole_number(subtasks, f"the parallelism of {self._read.node}")
        self._builder.change(self._read.node, parallelism=subtasks)
        return self

    def on_error(self, policy: Literal["fail", "skip"] | Sink) -> Stream:
        """Sets the policy for records for which the operator that gives this stream fails, or a function of its keys
        and inputs.

        `"fail"` stops the job, `"skip"` counts the record, a sink gets it with the reason and its origin. Where that is
        one half of an update, the other stands alone: a row that becomes a bad one is deleted.
        """
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
        failing = [id]
        if isinstance(node, OperatorNode):
            made = self._made_for(node)
            failing = [*made, *([id] if hasattr(node.spec, "on_error") or not made else [])]
            for each in failing:
                one = cast("OperatorNode", self._builder.node(each))
                self._builder.change(each, spec=_with_policy(each, one.spec, chosen))
                if one.type.changes and chosen != "fail":
                    # A bad record may be half an update.
                    self._builder.change(each, type=replace(one.type, changes=one.type.changes | HALVES))
        if isinstance(policy, Sink):
            first, *more = (Stream(self._builder, Input(each, ERRORS)) for each in failing)
            (first.union(*more) if more else first).write(policy)
        return self

    def _made_for(self, node: OperatorNode) -> list[str]:
        """The ids of the nodes that make columns of functions for this operator alone."""
        above = [self._builder.node(each.node) for each in node.inputs]
        return [
            each.id for each in above if isinstance(each, OperatorNode) and isinstance(each.spec, Extract)
        ]

    # Writing.

    def write(self, sink: Sink) -> Stream:
        """Writes every record to a sink; the stream can be used further."""
        if not isinstance(sink, Sink):
            raise JobDefinitionError(f"write got {sink!r}", hint="give a sink, like sf.ConsoleSink()")
        self._builder.add_sink(sink, self._read)
        return self

    def collect(self) -> Collected:
        """Keeps every record in memory, to be read after the run.

        Exactly once within one process, restarts included. A new process that continues from a checkpoint has only
        the records after it; the earlier ones were in the old process's memory.
        """
        collected = Collected()
        self._builder.add_sink(CollectSink(collected), self._read)
        return collected

    # A preview, and names that other libraries use.

    def head(self, n: int = 5, *, timeout: Duration = "30s") -> pl.DataFrame | list[Any]:
        """The first `n` records, by running the job up to here now: a DataFrame, or a list for a stream of objects.

        Fewer records if the input ends before, or gives none for as long as `timeout`.

        >>> import streamflow as sf
        >>> sf.Job("look").read(sf.MemorySource([{"v": 1}, {"v": 2}])).head(1)["v"].to_list()
        [1]
        """
        from streamflow.api.preview import first_records

        return first_records(self, n, parse_duration(timeout, what="timeout", positive=True))

    def show(self, n: int = 5, *, timeout: Duration = "30s") -> None:
        """Prints the first `n` records, found as `head` finds them."""
        from streamflow.api.preview import as_lines

        print(as_lines(self.head(n, timeout=timeout)), end="")  # noqa: T201 — what it is for

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            raise missing("Stream", name, STREAM, dir(type(self)))

    def _repr_html_(self) -> str:
        """An HTML view for notebooks."""
        schema = self.schema
        rows = schema.items() if isinstance(schema, Schema) else [("objects", "Python")]
        return html_table(
            f"stream {self._read.node}", ["column", "type"], [[n, str(dtype)] for n, dtype in rows]
        )

    def _through(self, spec: OperatorSpec) -> Stream:
        return through(self, spec)


def added(stream: Stream, spec: OperatorSpec) -> Input:
    """Puts an operator behind a stream and returns its output."""
    return Input(builder_of(stream).add_operator(spec, (read_of(stream),)))


def through(stream: Stream, spec: OperatorSpec) -> Stream:
    """The stream behind any operator."""
    return Stream(builder_of(stream), added(stream, spec))


def builder_of(stream: Stream) -> GraphBuilder:
    """The graph that a stream belongs to."""
    return stream._builder  # pyright: ignore[reportPrivateUsage]


def read_of(stream: Stream) -> Input:
    """The output that a stream reads."""
    return stream._read  # pyright: ignore[reportPrivateUsage]


def has_end(stream: Stream) -> bool:
    """Whether every source of a stream comes to an end."""
    builder = builder_of(stream)
    nodes = [builder.node(read_of(stream).node)]
    for node in nodes:
        nodes += [builder.node(read.node) for read in inputs_of(node)]
    return all(node.source.bounded for node in nodes if isinstance(node, SourceNode))


def _expressions(positional: tuple[IntoExpr, ...], named: dict[str, IntoExpr]) -> tuple[pl.Expr, ...]:
    listed = [pl.col(e) if isinstance(e, str) else e for e in positional]
    listed += [(pl.col(e) if isinstance(e, str) else _literal(e)).alias(name) for name, e in named.items()]
    for expression in listed:
        if not isinstance(expression, pl.Expr):
            raise JobDefinitionError(f"{expression!r} is no column and no expression")
    return tuple(listed)


def _literal(value: Any) -> pl.Expr:
    try:
        return value if isinstance(value, pl.Expr) else pl.lit(value)
    except TypeError as error:
        raise JobDefinitionError(f"{value!r} is no column and no expression") from error


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
