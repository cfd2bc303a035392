"""`Table`: the latest row of each key of a stream, to join with, and as a changing result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Never, cast

import polars as pl

from streamflow.api.builder import with_place
from streamflow.api.other_names import missing
from streamflow.api.stream import Stream, builder_of, read_of, through
from streamflow.core.schema import CHANGE, Schema
from streamflow.errors import JobDefinitionError, Where
from streamflow.operators.joins.latest_standing import LatestStanding
from streamflow.operators.joins.rows_of_changes import RowsOfChanges
from streamflow.operators.joins.table_rows import DELETED
from streamflow.operators.joins.upserts import Upserts

if TYPE_CHECKING:
    from streamflow.api.joined import JoinedStream, Keys
    from streamflow.operators.joins.sides import How
    from streamflow.time.timestamps import Duration

__all__ = ["Table", "key_names", "table_of"]

_ELSEWHERE = {
    "filter": "filter(…) of the stream before, or of changes()",
    "select": "select(…) of the stream before, or of changes()",
    "with_columns": "with_columns(…) of the stream before, or of changes()",
    "write": "changes().write(sink)",
    "collect": "changes().collect()",
    "aggregate": "changes().key_by(…).aggregate(…)",
    "key_by": "changes().key_by(…)",
    "join_asof": "join_asof(table) of a stream: a stream's event time is looked up in the table",
    "to_stream": "changes()",
    "toStream": "changes()",
}


class Table:
    """The latest row of each key; made by `Job.table` and `Stream.to_table`.

    Versioned, it has a history, and a stream looks it up as of its own event time; otherwise the row counts that is
    there when a record of the stream comes.
    """

    def __init__(self, stream: Stream, keys: tuple[str, ...], *, versioned: bool) -> None:
        """`stream` has the rows as they come, with DELETED if rows can say that their key is gone."""
        self.stream = stream
        self.keys = keys
        self.versioned = versioned

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            raise missing("Table", name, _ELSEWHERE, dir(type(self)))

    def __repr__(self) -> str:
        return f"Table({read_of(self.stream).node} by {', '.join(self.keys)})"

    @property
    def schema(self) -> Schema:
        """The table's columns and their types."""
        schema = self.stream.type.schema
        assert isinstance(schema, Schema)
        return Schema({name: dtype for name, dtype in schema.items() if name != DELETED})

    def changes(self) -> Stream:
        """The table as a changing result: insert, update_before and update_after, delete, in the column `change`.

        >>> import streamflow as sf
        >>> job = sf.Job("prices")
        >>> rows = [{"item": "a", "price": 1}, {"item": "b", "price": 5}, {"item": "a", "price": 2}]
        >>> last = job.table(sf.MemorySource(rows), key="item").changes().collect()
        >>> _ = job.run()
        >>> sorted((row["item"], row["price"]) for row in last.rows())
        [('a', 2), ('b', 5)]
        """
        return through(self.stream, Upserts(self.keys, versioned=self.versioned))

    def join(
        self,
        other: Table | Stream | pl.DataFrame,
        on: Keys | None = None,
        *,
        left_on: Keys | None = None,
        right_on: Keys | None = None,
        how: How = "inner",
        suffix: str = "_right",
        ttl: Duration | None = None,
    ) -> JoinedStream:
        """The join with another table or changing result: what stands in both, as a changing result. `on` is the
        table's key unless it says otherwise; the rest is as in `Stream.join`.

        >>> import streamflow as sf
        >>> job = sf.Job("stock")
        >>> names = job.table(sf.MemorySource([{"item": "a", "name": "apple"}]), key="item")
        >>> stock = job.table(sf.MemorySource([{"item": "a", "n": 3}]), key="item")
        >>> both = names.join(stock).collect()
        >>> _ = job.run()
        >>> both.rows()
        [{'change': 'insert', 'item': 'a', 'name': 'apple', 'n': 3}]
        """
        if on is None and left_on is None and right_on is None:
            on = list(self.keys)
        right = other.changes() if isinstance(other, Table) else other
        return self.changes().join(
            right, on, left_on=left_on, right_on=right_on, how=how, suffix=suffix, ttl=ttl
        )


def table_of(stream: Stream, key: str | Sequence[str], deleted: pl.Expr | None, *, versioned: bool) -> Table:
    """The table of a stream with columns; raises JobDefinitionError for keys that it lacks."""
    return with_place(read_of(stream).node, lambda: _table_of(stream, key, deleted, versioned=versioned))


def _table_of(stream: Stream, key: str | Sequence[str], deleted: pl.Expr | None, *, versioned: bool) -> Table:
    where = Where(operator=read_of(stream).node)
    schema = stream.type.schema
    if not isinstance(schema, Schema):
        raise JobDefinitionError(
            "a table needs columns, and this stream holds Python objects",
            where=where,
            hint="give the source a schema=, or map(function, schema=…) before to_table(…)",
        )
    if stream.type.changes:
        if deleted is not None:
            raise JobDefinitionError(
                "deleted= for changes, which say themselves what is gone",
                where=where,
                hint="leave deleted= out",
            )
        schema.need(CHANGE, where=where)
    if versioned and not stream.type.timed:
        raise JobDefinitionError(
            "a table with a history needs event time, and this stream has none",
            where=where,
            hint='give it when reading: event_time="column"',
        )
    keys = key_names(key, "key")
    for name in keys:
        schema.need(name, where=where)
    if stream.type.changes:
        in_order = versioned or builder_of(stream).graph.one_row_each(read_of(stream), keys)
        stream = through(stream, RowsOfChanges(timed=stream.type.timed) if in_order else LatestStanding(keys))
    if deleted is not None:
        if not isinstance(deleted, pl.Expr):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise JobDefinitionError(
                f"deleted is {deleted!r}", where=where, hint="give an expression like col('gone') == 1"
            )
        stream = stream.with_columns(deleted.alias(DELETED))
        dtype = stream.type.schema
        if isinstance(dtype, Schema) and dtype[DELETED] != pl.Boolean():
            raise JobDefinitionError(
                f"deleted has to be a yes or no for each row, and {deleted} is {dtype[DELETED]}",
                where=where,
                hint="compare it with something, like col('gone') == 1",
            )
    return Table(stream, keys, versioned=versioned)


def key_names(given: object, what: str) -> tuple[str, ...]:
    """The names of columns given as a name, a column expression or a list of them."""
    listed = cast("Sequence[object]", given if isinstance(given, (list, tuple)) else [given])
    names: list[str] = []
    for each in listed:
        if isinstance(each, pl.Expr) and each.meta.is_column():
            each = each.meta.output_name()
        if not isinstance(each, str):
            raise JobDefinitionError(
                f"{what}={each!r} names no column",
                hint="give a column's name; a computed key becomes one with with_columns(name=…) first",
            )
        names.append(each)
    if not names or len(set(names)) < len(names):
        raise JobDefinitionError(f"{what}={given!r}", hint="name each key column once")
    return tuple(names)
