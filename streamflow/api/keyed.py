"""`KeyedStream`: a stream whose records belong to keys, and what can be done with those: windows, totals, reduce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from streamflow.api.processed import ProcessedStream, processed
from streamflow.api.stream import IntoExpr, Stream
from streamflow.api.windowed import WindowedStream, aggregate_inputs, field_of, reduction
from streamflow.errors import JobDefinitionError, Where
from streamflow.operators.extract import Extract
from streamflow.operators.process import KeyedProcess
from streamflow.operators.running import RunningAggregateSpec
from streamflow.records.schema import Schema
from streamflow.time.timestamps import Duration, parse_duration
from streamflow.windows.aggregates import Aggregate
from streamflow.windows.assigners import Assigner

__all__ = ["KeyedStream", "keyed_stream"]

NullKeys = Literal["fail", "group"]
Accumulation = Literal["accumulating", "discarding", "retracting"]


@dataclass(frozen=True)
class KeyedStream:
    """A stream partitioned by key; made by `Stream.key_by`.

    `functions` are keys that Python functions give; they become columns together with what is aggregated.
    `record_columns` are the columns that there were before; None for a stream of objects.
    """

    stream: Stream
    keys: tuple[str, ...]
    functions: tuple[tuple[str, Callable[[Any], Any]], ...]
    null_keys: NullKeys
    record_columns: tuple[str, ...] | None

    def window(
        self,
        assigner: Assigner,
        *,
        allowed_lateness: Duration = "0s",
        accumulation: Accumulation = "accumulating",
        pane_info: bool = False,
    ) -> WindowedStream:
        """Cut each key's records into windows by event time.

        A record later than the watermark by more than `allowed_lateness` past its window's end goes to `.late`.
        With `pane_info` results also say `pane_timing` (ON_TIME, LATE), `pane_index` (from 0) and `is_last`.
        Raises JobDefinitionError where the stream has no event time.
        """
        if not self.stream.type.timed:
            raise JobDefinitionError(
                "a window needs event time, and this stream has none",
                hint='say it when reading: job.read(source, event_time="column")',
            )
        lateness = parse_duration(allowed_lateness, what="allowed_lateness", negative=False)
        if accumulation not in ("accumulating", "discarding", "retracting"):
            raise JobDefinitionError(
                f"accumulation is {accumulation!r}", hint="choose accumulating, discarding or retracting"
            )
        if not isinstance(assigner, Assigner):
            raise JobDefinitionError(
                f"{assigner!r} assigns no windows",
                hint='give one like sf.tumbling("10s") or sf.session(gap="30m")',
            )
        return WindowedStream(self, assigner, lateness, accumulation, pane_info)

    def aggregate(self, **aggregates: Aggregate) -> Stream:
        """Running totals per key: a changing result, whose column `change` says insert, update_before or
        update_after. In batch each key comes once, at the end."""
        stream, prepared = self.columns(aggregates)
        spec = RunningAggregateSpec(keys=self.keys, aggregates=prepared, null_keys=self.null_keys)
        return stream.apply(spec)

    def reduce(self, function: Callable[[Any, Any], Any]) -> Stream:
        """The records of a key combined two by two, running; the column `value` holds the result. The function is
        to give the same whatever the order."""
        aggregate, unpack = reduction(self.stream, function)
        return unpack(self.aggregate(value=aggregate))

    def process(
        self,
        process: KeyedProcess | type[KeyedProcess],
        *,
        schema: object = None,
        broadcast: Stream | None = None,
    ) -> ProcessedStream:
        """Logic of one's own by key, with state and timers: a `KeyedProcess` (or its class) sees each record.

        `schema` says the columns of what it emits where its `output` does not; without either the result holds
        objects. Every subtask gets all records of `broadcast`, in `on_broadcast`. `.output("name")` of the result is
        a side output.
        """
        return processed(self, process, schema, broadcast)

    def columns(self, aggregates: dict[str, Aggregate]) -> tuple[Stream, tuple[tuple[str, Aggregate], ...]]:
        """The stream with every key and aggregate input as a column, and the aggregates over those columns."""
        objects = not isinstance(self.stream.schema, Schema)
        made, prepared = aggregate_inputs(aggregates, objects=objects)
        functions = (*self.functions, *made)
        stream = self.stream
        if functions:
            stream = stream.apply(Extract(columns=functions))
        return stream, prepared


def keyed_stream(
    stream: Stream, keys: tuple[IntoExpr | Callable[[Any], Any], ...], null_keys: NullKeys
) -> KeyedStream:
    """What `Stream.key_by` does."""
    if not keys:
        raise JobDefinitionError(
            "key_by without a key",
            where=Where(operator=stream.operator),
            hint='give columns, like key_by("origin")',
        )
    if null_keys not in ("fail", "group"):
        raise JobDefinitionError(f"null_keys is {null_keys!r}", hint='choose "fail" or "group"')
    schema = stream.schema
    named = [_key(key, columns=isinstance(schema, Schema)) for key in keys]
    names = tuple(name for name, _ in named)
    if len(set(names)) != len(names):
        raise JobDefinitionError(
            f"two keys have one name: {', '.join(names)}", hint="name them with .alias()"
        )
    made = [made for _, made in named if isinstance(made, pl.Expr)]
    if made:
        stream = stream.with_columns(*made)
    functions = tuple(
        (name, made) for name, made in named if made is not None and not isinstance(made, pl.Expr)
    )
    if isinstance(stream.schema, Schema):
        for name in names:
            if name not in dict(functions):
                stream.schema.need(name, where=Where(operator="key_by"))
    before = tuple(schema) if isinstance(schema, Schema) else None
    return KeyedStream(stream, names, functions, null_keys, before)


def _key(key: object, *, columns: bool) -> tuple[str, pl.Expr | Callable[[Any], Any] | None]:
    """A key's name, and what makes its column where it is not one already."""
    if isinstance(key, str):
        return key, None if columns else field_of(key)
    if isinstance(key, pl.Expr):
        return key.meta.output_name(), None if key.meta.is_column() else key
    if callable(key):
        name = getattr(key, "__name__", "key")
        return "key" if name == "<lambda>" else name, key
    raise JobDefinitionError(f"{key!r} cannot be a key", hint="give a column, an expression or a function")
