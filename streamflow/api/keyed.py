"""`KeyedStream`: a stream whose records belong to keys, and what can be done with those: windows, totals, reduce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from streamflow.api.stream import IntoExpr, Stream
from streamflow.api.windowed import WindowedStream, aggregate_inputs, reduction
from streamflow.errors import JobDefinitionError, Where
from streamflow.graph.logical import Input
from streamflow.operators.extract import Extract
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
    """

    stream: Stream
    keys: tuple[str, ...]
    functions: tuple[tuple[str, Callable[[Any], Any]], ...]
    null_keys: NullKeys

    def window(
        self,
        assigner: Assigner,
        *,
        allowed_lateness: Duration = "0s",
        accumulation: Accumulation = "accumulating",
    ) -> WindowedStream:
        """Cut each key's records into windows by event time.

        A record later than the watermark by more than `allowed_lateness` past its window's end goes to `.late`.
        Raises JobDefinitionError where the stream has no event time.
        """
        if not self.stream.type.timed:
            raise JobDefinitionError(
                "a window needs event time, and this stream has none",
                hint='say it when reading: job.read(source, event_time="column")',
            )
        lateness = parse_duration(allowed_lateness, what="allowed_lateness")
        if lateness < 0:
            parse_duration(allowed_lateness, what="allowed_lateness", positive=True)
        if accumulation not in ("accumulating", "discarding", "retracting"):
            raise JobDefinitionError(
                f"accumulation is {accumulation!r}", hint="choose accumulating, discarding or retracting"
            )
        if not isinstance(assigner, Assigner):
            raise JobDefinitionError(
                f"{assigner!r} assigns no windows", hint='give one like sf.tumbling("10s") or sf.session(gap="30m")'
            )
        return WindowedStream(self, assigner, lateness, accumulation)

    def aggregate(self, **aggregates: Aggregate) -> Stream:
        """Running totals per key: a changing result, whose column `change` says insert, update_before or
        update_after. In batch each key comes once, at the end."""
        stream, prepared = self.columns(aggregates)
        spec = RunningAggregateSpec(keys=self.keys, aggregates=prepared, null_keys=self.null_keys)
        return Stream(stream._builder, Input(stream._builder.add_operator(spec, (stream._read,))))

    def reduce(self, function: Callable[[Any, Any], Any]) -> Stream:
        """The records of a key combined two by two, running; the column `value` holds the result. The function is
        to give the same whatever the order."""
        aggregate, unpack = reduction(self.stream, function)
        return unpack(self.aggregate(value=aggregate))

    def columns(self, aggregates: dict[str, Aggregate]) -> tuple[Stream, tuple[tuple[str, Aggregate], ...]]:
        """The stream with every key and aggregate input as a column, and the aggregates over those columns."""
        objects = not isinstance(self.stream.schema, Schema)
        made, prepared = aggregate_inputs(aggregates, objects=objects)
        functions = (*self.functions, *made)
        stream = self.stream
        if functions:
            extract = Extract(columns=functions)
            stream = Stream(stream._builder, Input(stream._builder.add_operator(extract, (stream._read,))))
        return stream, prepared


def keyed_stream(
    stream: Stream, keys: tuple[IntoExpr | Callable[[Any], Any], ...], null_keys: NullKeys
) -> KeyedStream:
    """What `Stream.key_by` does."""
    if not keys:
        raise JobDefinitionError(
            "key_by without a key", where=Where(operator=stream._read.node), hint='give columns, like key_by("origin")'
        )
    if null_keys not in ("fail", "group"):
        raise JobDefinitionError(f"null_keys is {null_keys!r}", hint='choose "fail" or "group"')
    schema = stream.schema
    names: list[str] = []
    functions: list[tuple[str, Callable[[Any], Any]]] = []
    made: list[pl.Expr] = []
    for key in keys:
        if isinstance(key, str) and isinstance(schema, Schema):
            schema.need(key, where=Where(operator="key_by"))
            names.append(key)
        elif isinstance(key, str):
            names.append(key)
            functions.append((key, _field(key)))
        elif isinstance(key, pl.Expr):
            names.append(key.meta.output_name())
            if not key.meta.is_column():
                made.append(key)
        elif callable(key):
            name = getattr(key, "__name__", "key")
            names.append(_free("key" if name == "<lambda>" else name, names))
            functions.append((names[-1], key))
        else:
            raise JobDefinitionError(f"{key!r} cannot be a key", hint="give a column, an expression or a function")
    if len(set(names)) != len(names):
        raise JobDefinitionError(f"two keys have one name: {', '.join(names)}", hint="name them with .alias()")
    if made:
        stream = stream.with_columns(*made)
    elif isinstance(schema, Schema):
        for name in names:
            if name not in dict(functions):
                schema.need(name, where=Where(operator="key_by"))
    return KeyedStream(stream, tuple(names), tuple(functions), null_keys)


def _field(name: str) -> Callable[[Any], Any]:
    def field(row: Any) -> Any:
        return row[name]

    return field


def _free(name: str, taken: list[str]) -> str:
    return name if name not in taken else f"{name}_{len(taken) + 1}"


