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

_HALVES: Final = pl.DataFrame(
    [
        ("c", "insert", "after"),
        ("r", "insert", "after"),
        ("u", "update_before", "before"),
        ("u", "update_after", "after"),
        ("d", "delete", "before"),
    ],
    schema={"op": pl.String, CHANGE: CHANGE_TYPE, "side": pl.String},
    orient="row",
)
"""The rows of each kind of change: what they are, and where they stand."""
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
        halves = changes.join(_HALVES, on="op", how="left", maintain_order="left_right")
        row = pl.when(pl.col("side") == "before").then(pl.col("before")).otherwise(pl.col("after"))
        halves = halves.select("place", "op", CHANGE, "side", row.alias("row"))
        lacking = halves.filter(pl.col(CHANGE).is_null() | pl.col("row").is_null())
        bad = dict(read.bad)
        for place, op, side in lacking.select("place", "op", "side").iter_rows():
            bad.setdefault(place, _problem(op, side))
        rows = halves.filter(~pl.col("place").is_in(lacking["place"].implode()))
        frame = rows.select(CHANGE, "row").unnest("row")[self._shown]
        return DecodedValues(frame, rows["place"].to_list(), sorted(bad.items()))


def _problem(op: str | None, side: str | None) -> str:
    """The error text for a change that lacks the row of one side, or is of a kind that has none."""
    if op is None:
        return "no change of Debezium: it has no op"
    if side is None:
        known = ", ".join(_HALVES["op"].unique(maintain_order=True))
        return f"op {cut(represented(op))} changes no row; there are {known}"
    return f"op {op!r} without {side!r}" + (f" ({_FULL})" if side == "before" else "")
