"""Python rows as columns: one DataFrame of the rows that fit the schema, and error texts for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from streamflow.core.kinds import any_column
from streamflow.core.schema import OBJECTS, Schema, StreamSchema, check_not_reserved
from streamflow.core.values import framed, strict_column
from streamflow.errors import JobDefinitionError

__all__ = ["frame_of_rows", "infer_frame", "schema_of_rows"]


def frame_of_rows(
    rows: Sequence[Any], schema: Schema, columns: Sequence[str] | None = None
) -> tuple[pl.DataFrame, dict[int, str]]:
    """The rows that fit as a frame, and error texts by index for the others. A missing field is null, a field that
    the schema does not name is ignored.

    >>> frame_of_rows([{"n": 1}, {"n": "x"}], Schema({"n": pl.Int64}))[0].rows()
    [(1,)]
    """
    problems = {
        index: f"a dict was expected, this is a {type(row).__name__}"
        for index, row in enumerate(rows)
        if not isinstance(row, Mapping)
    }
    left: Sequence[Any] = (
        [rows[index] for index in range(len(rows)) if index not in problems] if problems else rows
    )
    places = [index for index in range(len(rows)) if index not in problems]
    made: list[pl.Series] = []
    for name, dtype in schema.items():
        if columns is None or name in columns:
            column, misfits = strict_column(name, [row.get(name) for row in left], dtype)
            made.append(column)
            for at, what in misfits.items():
                problems.setdefault(places[at], f"the row does not fit the schema: {what}")
    frame = framed(made)
    if problems:
        frame = frame.filter(pl.Series([at not in problems for at in places], dtype=pl.Boolean))
    return frame, problems


def schema_of_rows(rows: Sequence[Any]) -> StreamSchema:
    """The columns of dicts; OBJECTS if any value is not a dict, or there is none."""
    if not rows or not all(isinstance(row, dict) for row in rows):
        return OBJECTS
    return Schema(infer_frame(rows).schema)


def infer_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Dicts as a frame, the types found from all of them; raises JobDefinitionError if they differ."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise JobDefinitionError("the rows have no columns", hint=_OBJECTS_HINT)
    check_not_reserved(names)
    columns: list[pl.Series] = []
    for name in names:
        if not isinstance(name, str):
            raise JobDefinitionError(f"a row has the key {name!r}, which names no column", hint=_OBJECTS_HINT)
        column, misfits = any_column(name, [row.get(name) for row in rows])
        for index, why in misfits.items():
            raise JobDefinitionError(
                f"the rows do not fit one schema: row {index}: {why}", hint=_OBJECTS_HINT
            )
        columns.append(column)
    return framed(columns)


_OBJECTS_HINT: Final = "give schema={…}, or schema=sf.OBJECTS for Python objects"
