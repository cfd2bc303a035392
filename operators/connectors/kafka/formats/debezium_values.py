"""Debezium values: each is the change of a row of a database, `op` with the row `before` and `after`, in JSON.

A row that was created or read in a snapshot is an insert; an update is two rows, one of what stood before and one of
what stands now; a deletion is what stood before. The envelope is that of Debezium's connectors (their documentation,
"Data change events"), with the schema beside the payload or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema, StreamSchema
from streamflow.errors import JobDefinitionError, cut, represented
from streamflow.operators.connectors.kafka.formats.column_casts import projected, resolved
from streamflow.operators.connectors.kafka.formats.json_values import JsonColumns
from streamflow.operators.connectors.kafka.formats.values import DecodedValues

__all__ = ["DebeziumValues"]

_ROWS: Final = {
    "c": (("insert", "after"),),
    "r": (("insert", "after"),),
    "u": (("update_before", "before"), ("update_after", "after")),
    "d": (("delete", "before"),),
}
_FULL: Final = "PostgreSQL gives it with ALTER TABLE … REPLICA IDENTITY FULL"


class DebeziumValues:
    """A decoder of changes into the columns of a schema and, first, `change`. `columns`: the only ones that are
    read. Raises JobDefinitionError without a schema, and for one that has `change`."""

    def __init__(self, schema: StreamSchema | None, max_bytes: int, columns: Sequence[str] | None) -> None:
        if not isinstance(schema, Schema):
            raise JobDefinitionError(
                'format="debezium" needs the columns of the database\'s table', hint="give them with schema="
            )
        schema = resolved(schema)
        if CHANGE in schema:
            raise JobDefinitionError(
                f"a column of the table is named {CHANGE!r}, which its changes have",
                hint='read format="json" with the columns op, before and after as structs',
            )
        every = Schema({CHANGE: CHANGE_TYPE, **schema})
        shown = projected(every, columns)
        self.schema: StreamSchema = shown
        self._shown = list(shown)
        # A struct has one column at least.
        row = {name: dtype for name, dtype in schema.items() if name in shown} or schema
        envelope = {"op": pl.String(), "before": pl.Struct(row), "after": pl.Struct(row)}
        self._json = JsonColumns(Schema({**envelope, "payload": pl.Struct(envelope)}), max_bytes)

    def decode(self, values: Sequence[bytes | None]) -> DecodedValues:
        read = self._json.decode(values)
        assert isinstance(read.rows, pl.DataFrame)
        places = pl.Series(
            range(len(values)) if read.origin is None else read.origin, dtype=pl.UInt32, strict=True
        )
        wrapped = pl.col("payload").is_not_null()
        changes = read.rows.select(
            places.alias("place"),
            *(
                pl.when(wrapped)
                .then(pl.col("payload").struct.field(name))
                .otherwise(pl.col(name))
                .alias(name)
                for name in ("op", "before", "after")
            ),
        )
        told = changes.filter(_unusable()).select("place", "op", pl.col("before", "after").is_not_null())
        bad = dict(read.bad)
        for place, op, before, after in told.iter_rows():
            bad[place] = _problem(op, before=before, after=after)
        usable = changes.filter(~_unusable())
        rows = [
            usable.filter(pl.col("op") == op).select(
                "place",
                pl.lit(number, pl.UInt8).alias("half"),
                pl.lit(kind, CHANGE_TYPE).alias(CHANGE),
                pl.col(side).alias("row"),
            )
            for op, halves in _ROWS.items()
            for number, (kind, side) in enumerate(halves)
        ]
        flat = pl.concat(rows).sort("place", "half")
        frame = flat.select(CHANGE, "row").unnest("row")[self._shown]
        return DecodedValues(frame, flat["place"].to_list(), sorted(bad.items()))


def _unusable() -> pl.Expr:
    """Whether a change lacks a row that its kind needs, or is of another kind."""
    usable = [
        (pl.col("op") == op) & pl.all_horizontal(pl.col(side).is_not_null() for _, side in halves)
        for op, halves in _ROWS.items()
    ]
    return ~pl.any_horizontal(usable).fill_null(False)


def _problem(op: str | None, *, before: bool, after: bool) -> str:
    """The error text for a change that has no rows."""
    if op is None:
        return "no change of Debezium: it has no op"
    if op not in _ROWS:
        return f"op {cut(represented(op))} changes no row; there are {', '.join(_ROWS)}"
    there = {"before": before, "after": after}
    side = next(side for _, side in _ROWS[op] if not there[side])
    return f"op {op!r} without {side!r}" + (f" ({_FULL})" if side == "before" else "")
