"""Streams of chosen or ordered records, with those that came too late for it; and how they are made."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from streamflow.api.choosing import On
from streamflow.api.keyed import keyed_by
from streamflow.api.keying import Keying, NullKeys
from streamflow.api.ordering import listed, ordering
from streamflow.api.stream import Stream, added, builder_of, has_end, read_of
from streamflow.arguments import chosen, flag, whole_number
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.errors import JobDefinitionError, Where
from streamflow.graph.logical import Input, OperatorNode
from streamflow.operators.contract.operator import LATE, OperatorSpec
from streamflow.operators.sorting.deduplicate import DeduplicateSpec
from streamflow.operators.sorting.equal_objects import record
from streamflow.operators.sorting.event_time import EventTimeSortSpec
from streamflow.operators.sorting.sort_rows import SortRowsSpec
from streamflow.operators.sorting.top_rows import LastOfEachSpec, TopRowsSpec
from streamflow.time.timestamps import parse_duration

if TYPE_CHECKING:
    from streamflow.time.timestamps import Duration

__all__ = ["InOrderStream", "deduplicated", "first_rows", "sorted_stream"]

_LOG: Final = logging.getLogger("streamflow.sorting")


class InOrderStream(Stream):
    """Records that have waited for the watermark; `late` are those that came behind it."""

    @property
    def late(self) -> Stream:
        """The records behind the watermark, unchanged.

        Raises JobDefinitionError where none is late: without event time, for a result that changes
        (`keep="last"` without `within`), and for a sort at the end of a batch.
        """
        node = self._builder.node(self._read.node)
        assert isinstance(node, OperatorNode)
        if not self.type.timed or not isinstance(node.spec, DeduplicateSpec | EventTimeSortSpec):
            raise JobDefinitionError(
                f"no record is late for {node.id}",
                hint="late are records of streams with event time that wait for it",
            )
        return Stream(self._builder, Input(node.id, LATE))


def deduplicated(
    stream: Stream,
    on: On | Iterable[On] | None,
    within: Duration | None,
    keep: Literal["first", "last"],
    null_keys: NullKeys,
) -> InOrderStream:
    """One record of each key; `Stream.deduplicate` and `distinct` call it."""
    chosen(keep, "keep", ("first", "last"))
    micros = None if within is None else parse_duration(within, what="within", positive=True)
    needs_time = "within" if micros is not None else 'keep="last"' if keep == "last" else None
    if needs_time is not None and not stream.type.timed:
        raise JobDefinitionError(
            f"{needs_time} needs event time, and this stream has none",
            where=Where(operator="deduplicate"),
            hint='give it when reading: job.read(source, event_time="column")',
        )
    keying = _keyed(stream, on, null_keys)
    keys, columns = tuple(sorted(keying.keys)), keying.record_columns
    spec: OperatorSpec
    if keep == "last" and micros is None:
        spec = LastOfEachSpec(keys, 1, (), columns, keying.null_keys)
    else:
        spec = DeduplicateSpec(keys, columns, micros, keep, keying.null_keys)
    result = _behind(keying.whole_records(), spec)
    if micros is None and not has_end(stream):
        node = read_of(result).node
        _LOG.warning(
            '%s remembers every key for ever: give within=, like within="1d", to forget it again', node
        )
    return result


def sorted_stream(
    stream: Stream,
    by: Iterable[On | Iterable[On]],
    descending: bool | Iterable[bool],
    nulls_last: bool,
) -> InOrderStream:
    """The records in order; `Stream.sort` calls it."""
    columns = [column for each in by for column in listed(each)]
    order = ordering(stream, columns, descending, "sort", by_time=True)
    flag(nulls_last, "nulls_last")
    whole = Keying(order.stream, (), (), "group", stream.type.schema)
    if order.by == ((EVENT_TIME, False),):
        return _behind(whole.whole_records(), EventTimeSortSpec(whole.record_columns))
    spec = SortRowsSpec(order.columns, order.descending, nulls_last, whole.record_columns, order.shown)
    return _behind(whole.whole_records(order.functions), spec)


def first_rows(keying: Keying, n: int, by: On | Iterable[On], descending: bool | Iterable[bool]) -> Stream:
    """The first rows of each key; `KeyedStream.top_k` and `Stream.top_k` call it."""
    whole_number(n, "the number of rows of top_k")
    order = ordering(keying.stream, by, descending, "top_k")
    keyed = replace(keying, stream=order.stream)
    spec = TopRowsSpec(keyed.keys, n, order.by, keyed.record_columns, keyed.null_keys, shown=order.shown)
    whole = keyed.whole_records(order.functions)
    return Stream(builder_of(whole), added(whole, spec))


def _keyed(stream: Stream, on: On | Iterable[On] | None, null_keys: NullKeys) -> Keying:
    """The stream keyed by what `deduplicate` was given; None: by all that a record holds, and null like any value."""
    if on is not None:
        return keyed_by(stream, listed(on), null_keys, "deduplicate")
    whole = list(stream.schema) if isinstance(stream.schema, Schema) else [record]
    return keyed_by(stream, whole, "group", "deduplicate")


def _behind(stream: Stream, spec: OperatorSpec) -> InOrderStream:
    return InOrderStream(builder_of(stream), added(stream, spec))
