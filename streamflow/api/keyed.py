"""`KeyedStream`: a stream whose records belong to keys, with its windows, totals, `reduce` and `process`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Never

import polars as pl

from streamflow.api.choosing import On
from streamflow.api.keying import Keying, NullKeys
from streamflow.api.object_fields import field_of
from streamflow.api.other_names import AGGREGATES, missing
from streamflow.api.processed import ProcessedStream, processed
from streamflow.api.shortcuts import Shortcuts
from streamflow.api.stream import IntoExpr, Stream, through
from streamflow.api.windowed import UnpackedStream, WindowedStream, reduction
from streamflow.arguments import flag
from streamflow.core.schema import Schema, check_not_reserved, key_column, shown_name
from streamflow.errors import JobDefinitionError, Where, represented
from streamflow.operators.aggregates.combiner import Timestamp
from streamflow.operators.process.process import KeyedProcess, ProcessOrder
from streamflow.operators.stateless.columns import chosen
from streamflow.operators.stateless.user_functions import check_function, on_rows
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.operators.windows.windowing import ALL_RECORDS
from streamflow.time.timestamps import Duration, parse_duration
from streamflow.windows.aggregates import Aggregate
from streamflow.windows.assigners import Assigner
from streamflow.windows.triggers import Trigger, as_default

if TYPE_CHECKING:
    from streamflow.api.patterns import MatchedStream
    from streamflow.operators.patterns.pattern import Pattern

__all__ = ["KeyedStream", "keyed_by", "keyed_stream", "keyless"]

_ELSEWHERE: Final = {
    **AGGREGATES,
    "agg": "aggregate(total=sf.sum(…), …)",
    "apply": "process(MyProcess)",
    "match_recognize": "match(sf.pattern(…).then(…))",
    "pattern": "match(sf.pattern(…).then(…))",
    "map": "map(function) before key_by(…), or process(MyProcess)",
    "flat_map": "flat_map(function) before key_by(…), or process(MyProcess)",
    "filter": "filter(…) before key_by(…)",
    "deduplicate": "deduplicate(key) of the stream, without key_by(…)",
    "distinct": "deduplicate(key) of the stream, without key_by(…)",
    "sort": 'process(MyProcess, order="event_time"), or sort("event_time") of the stream',
    **dict.fromkeys(
        (
            "mapGroupsWithState",
            "flatMapGroupsWithState",
            "applyInPandasWithState",
            "transformWithState",
            "stateful_map",
        ),
        "process(MyProcess), with state of its own",
    ),
    "fold": "reduce(function), or aggregate(…) with an sf.Aggregator",
    "scan": "reduce(function), which puts out each change, or process(MyProcess)",
    "tumbling": "window(sf.tumbling(…))",
    "sliding": "window(sf.sliding(…))",
    "session": "window(sf.session(gap=…))",
    "time_window": "window(sf.tumbling(…))",
    "windowed_by": "window(…)",
    "collect": "aggregate(…) or process(…) first: keys alone change nothing",
    "write": "aggregate(…) or process(…) first: keys alone change nothing",
    "len": "count()",
    "size": "count()",
}
Accumulation = Literal["accumulating", "discarding", "retracting"]


class KeyedStream(Shortcuts[Stream]):
    """A stream partitioned by key; made by `Stream.key_by`."""

    def __init__(self, keying: Keying) -> None:
        self._keying = keying

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            raise missing("KeyedStream", name, _ELSEWHERE, dir(type(self)))

    def window(
        self,
        assigner: Assigner,
        *,
        trigger: Trigger | None = None,
        allowed_lateness: Duration = "0s",
        accumulation: Accumulation = "accumulating",
        pane_info: bool = False,
        timestamp: Timestamp = "end",
    ) -> WindowedStream:
        """Cuts each key's records into windows by event time.

        Results go out when `trigger` says so; without one when the watermark has passed the window's end, and then
        for each batch with late records. A record later than the watermark by more than `allowed_lateness` past its
        window's end goes to `.late`. With `pane_info` results also say `pane_timing` (EARLY, ON_TIME, LATE),
        `pane_index` (from 0), `is_first` and `is_last`. `timestamp`: a result's event time is its window's last
        moment, or that of its `"earliest"` or `"latest"` record; with those the watermark behind waits for the
        beginning of open windows. Raises JobDefinitionError if the stream has no event time.
        """
        if not self._keying.stream.type.timed:
            raise JobDefinitionError(
                "a window needs event time, and this stream has none",
                hint='give it when reading: job.read(source, event_time="column")',
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
        if timestamp not in ("end", "earliest", "latest"):
            raise JobDefinitionError(f"timestamp is {timestamp!r}", hint="choose end, earliest or latest")
        if trigger is not None and not isinstance(trigger, Trigger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise JobDefinitionError(
                f"{trigger!r} is no trigger",
                hint="give one like sf.after_watermark(early=sf.after_count(100))",
            )
        return WindowedStream(
            self._keying,
            assigner,
            trigger=as_default(trigger, lateness),
            allowed_lateness=lateness,
            accumulation=accumulation,
            pane_info=flag(pane_info, "pane_info"),
            timestamp=timestamp,
        )

    def aggregate(self, **aggregates: Aggregate) -> Stream:
        """Running totals per key: a changing result, whose column `change` says insert, update_before or
        update_after.

        In batch mode each key comes once, at the end. An operator behind it that would count changes as records (a
        window) is refused; `process` sees each change with its kind. Running totals of a changing result take back
        withdrawn records, and a key without any is a delete: `count`, `sum`, `mean`, `min`, `max`, `n_unique`,
        `any`, `all`, `quantile`, `top_k`, `std` and `var` can; the others are refused.
        """
        keying = self._keying
        stream, prepared = keying.columns(aggregates)
        spec = RunningAggregateSpec(keys=keying.keys, aggregates=prepared, null_keys=keying.null_keys)
        return through(stream, spec)

    def reduce(self, function: Callable[[Any, Any], Any]) -> Stream:
        """The records of a key combined two by two, running; the column `value` holds the result.

        The function has to give the same result in any order. An error of the function fails the job: `on_error` is
        about single records, their keys and their values.
        """
        results = self.aggregate(value=reduction(self._keying.record_schema, function))
        return results if isinstance(self._keying.record_schema, Schema) else UnpackedStream(results)

    def top_k(self, n: int, by: On | Iterable[On], *, descending: bool | Iterable[bool] = True) -> Stream:
        """The first `n` records of each key, those with the largest values in `by` (columns, expressions or functions
        of a row): a changing result, whose column `change` says insert or delete.

        Of records that are equal in `by` the earliest by event time is first, and of those of one moment the first in
        the order of their columns' values; a null comes last. With `n=1` a key's record is updated:
        update_before and update_after. In batch mode the first records of each key come once, at the end.
        The input may be a changing result itself: then all of its rows are kept, since each may come up again.

        >>> import streamflow as sf
        >>> job = sf.Job("slowest")
        >>> rows = [{"origin": "JFK", "delay": 4}, {"origin": "JFK", "delay": 9}, {"origin": "LGA", "delay": 2}]
        >>> out = job.read(sf.MemorySource(rows)).key_by("origin").top_k(1, "delay").collect()
        >>> _ = job.run(mode="batch")
        >>> out.frame().sort("origin").rows()
        [('insert', 'JFK', 9), ('insert', 'LGA', 2)]
        """
        from streamflow.api.sorting import first_rows

        return first_rows(self._keying, n, by, descending)

    def process(
        self,
        process: KeyedProcess | type[KeyedProcess],
        *,
        schema: object = None,
        broadcast: Stream | None = None,
        order: ProcessOrder = "arrival",
    ) -> ProcessedStream:
        """A `KeyedProcess` (or its class) of the user's own, called for each record by key, with state and timers.

        `order`: events come as they arrive, or with `"event_time"` once the watermark has passed them, in order of
        event time and the same in every mode; late events then go to `.late`. See `KeyedProcess`.

        `schema` names the emitted columns if the process's `output` does not; without either the result holds
        objects. Every subtask gets all records of `broadcast`, in `on_broadcast`. `.output("name")` of the result is
        a side output.
        """
        return processed(self._keying, process, schema, broadcast, order)

    def match(self, pattern: Pattern, *, after_match: str = "no_skip") -> MatchedStream:
        """The sequences of events of a key that a pattern describes, one row for each: see `sf.pattern`.

        Events are looked at in order of event time, once the watermark has passed them; those of one moment in the
        order of their columns' values. `after_match` says what a match takes away: `"no_skip"` nothing;
        `"skip_to_next"` other matches that begin with the same event; `"skip_past_last"` those that begin before its
        end; `"skip_to_first:STEP"` and `"skip_to_last:STEP"` those that begin before the first or last event of a step.
        `.timed_out` of the result are the partial matches whose time is over, `.late` the late events.

        >>> import streamflow as sf
        >>> from streamflow import col
        >>> payments = [(1, 5), (2, 700), (3, 8), (90, 900)]
        >>> rows = [{"card": "a", "ts": ts, "amount": amount} for ts, amount in payments]
        >>> job = sf.Job("cards")
        >>> cards = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s")).key_by("card")
        >>> tested = sf.pattern("small", col("amount") < 10).then("large", col("amount") > 500).within("1m")
        >>> out = cards.match(tested).collect()
        >>> _ = job.run()
        >>> [(row["small"]["amount"], row["large"]["amount"]) for row in out.rows()]
        [(5, 700)]
        """
        from streamflow.api.patterns import matched

        return matched(self._keying, pattern, after_match)


def keyless(stream: Stream) -> KeyedStream:
    """All records under one key, a column that no result shows."""
    return KeyedStream(Keying(stream, (ALL_RECORDS,), (), "fail", stream.type.schema))


def keyed_stream(
    stream: Stream, keys: tuple[IntoExpr | Callable[[Any], Any], ...], null_keys: NullKeys
) -> KeyedStream:
    """The stream keyed by these keys; `Stream.key_by` calls it."""
    return KeyedStream(keyed_by(stream, keys, null_keys, "key_by"))


def keyed_by(
    stream: Stream, keys: Sequence[IntoExpr | Callable[[Any], Any]], null_keys: NullKeys, what: str
) -> Keying:
    """The stream and these keys of it; `what` names the method that they were given to."""
    if not keys:
        raise JobDefinitionError(
            f"{what} without a key",
            where=Where(operator=what),
            hint=f'give columns, like {what}("origin")',
        )
    if null_keys not in ("fail", "group"):
        raise JobDefinitionError(f"null_keys is {null_keys!r}", hint='choose "fail" or "group"')
    schema = stream.type.schema
    columns = schema if isinstance(schema, Schema) else None
    named = [_key(each, columns) for key in keys for each in _each(key, columns, what)]
    names = tuple(name for name, _ in named)
    if len(set(names)) != len(names):
        raise JobDefinitionError(
            f"two keys have one name: {', '.join(map(shown_name, names))}",
            hint="name expressions with .alias(), and write functions with def: a key has the function's name",
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
                stream.schema.need(name, where=Where(operator=what))
    for name, function in functions:
        check_function(function, f"{what} ({name})")
    functions = tuple((name, on_rows(function, schema, what)) for name, function in functions)
    return Keying(stream, names, functions, null_keys, schema)


def _each(key: object, schema: Schema | None, what: str) -> Sequence[object]:
    """The columns that a selector chooses, each a key; any other key unchanged."""
    if not isinstance(key, pl.Expr) or schema is None or not key.meta.has_multiple_outputs():
        return [key]
    columns = chosen(key, schema)
    if not columns:
        raise JobDefinitionError(
            f"the key {key} is no column, or several expressions",
            where=Where(operator=what),
            hint=f"there are: {', '.join(sorted(schema))}; give each expression by itself, with a name: .alias(…)",
        )
    return columns


def _key(key: object, schema: Schema | None) -> tuple[str, pl.Expr | Callable[[Any], Any] | None]:
    """The name of a key's column, and the expression or function that makes it (None if the column exists)."""
    if isinstance(key, str):
        check_not_reserved([key])
        column = key_column(key)
        copied = pl.col(key).alias(column) if column != key else None
        return column, field_of(key) if schema is None else copied
    if isinstance(key, pl.Expr):
        name = key.meta.output_name()
        column = key_column(name) if key.meta.is_column() else key_column(name, schema or ())
        return column, None if key.meta.is_column() and column == name else key.alias(column)
    if callable(key):
        name = getattr(key, "__name__", "key")
        return key_column("key" if name == "<lambda>" else name, schema or ()), key
    raise JobDefinitionError(f"{represented(key)} cannot be a key", hint=_hint(key))


def _hint(key: object) -> str:
    if isinstance(key, (list, tuple)):
        return 'give several keys one by one: key_by("a", "b")'
    if isinstance(key, int):
        return f"give a column, an expression or a function, like lambda record: record[{key}]"
    return "give a column, an expression or a function"
