"""Python rows into columns: one DataFrame for those that fit the schema, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.halving import halve
from streamflow.records.schema import OBJECTS, Schema, StreamSchema

__all__ = ["frame_of_rows", "infer_frame", "schema_of_rows"]

_FRAME_ERRORS: Final = (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError)


def frame_of_rows(
    rows: Sequence[Any], schema: Schema, columns: Sequence[str] | None = None
) -> tuple[pl.DataFrame, dict[int, str]]:
    """The rows that fit as columns, and by index what is wrong with those that do not. A missing field is null, a
    field that the schema does not name is ignored.

    >>> frame_of_rows([{"n": 1}, {"n": "x"}], Schema({"n": pl.Int64}))[0].rows()
    [(1,)]
    """
    kept = {name: dtype for name, dtype in schema.items() if columns is None or name in columns}
    problems = {
        index: f"a dict was expected, this is a {type(row).__name__}"
        for index, row in enumerate(rows)
        if not isinstance(row, Mapping)
    }
    left = [index for index in range(len(rows)) if index not in problems]

    def build(part: Sequence[Any]) -> pl.DataFrame:
        return pl.DataFrame(
            [{name: row.get(name) for name in kept} for row in part], schema=kept, orient="row"
        )

    def refused(part: Sequence[Any]) -> str | None:
        try:
            build(part)
        except _FRAME_ERRORS as error:
            return f"the row does not fit the schema: {str(error).splitlines()[0]}"
        return None

    for position, what in halve([rows[index] for index in left], refused).items():
        problems[left[position]] = what
    return build([rows[index] for index in left if index not in problems]), problems


def schema_of_rows(rows: Sequence[Any]) -> StreamSchema:
    """The columns that dicts have; objects where there is anything else, or nothing."""
    if not rows or not all(isinstance(row, dict) for row in rows):
        return OBJECTS
    return Schema(infer_frame(rows).schema)


def infer_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Dicts as columns, their types told by all of them. Raises JobDefinitionError where they differ."""
    try:
        frame = pl.DataFrame(rows, infer_schema_length=None, orient="row")
    except _FRAME_ERRORS as error:
        raise JobDefinitionError(
            f"the rows do not fit one schema: {str(error).splitlines()[0]}", hint=_OBJECTS_HINT
        ) from error
    for name, dtype in frame.schema.items():
        if dtype == pl.Object:
            raise JobDefinitionError(f"column {name!r} holds values of no column type", hint=_OBJECTS_HINT)
        _check_unmixed(name, dtype, rows)
    return frame


def _check_unmixed(name: str, dtype: pl.DataType, rows: Sequence[Mapping[str, Any]]) -> None:
    """Polars finds a type for a column of mixed values by turning them into text or numbers: an error here."""
    if isinstance(dtype, pl.String):
        fitting: set[type[Any]] = {str}
    elif dtype.is_numeric():
        fitting = {int} if dtype.is_integer() else {int, float}
    else:
        return
    held: set[type[Any]] = {type(row.get(name)) for row in rows if row.get(name) is not None}
    if len(held) > 1 and held - fitting:
        kinds = " and ".join(sorted(kind.__name__ for kind in held))
        raise JobDefinitionError(
            f"the rows do not fit one schema: column {name!r} holds {kinds}", hint=_OBJECTS_HINT
        )


_OBJECTS_HINT: Final = "give schema={…}, or schema=sf.OBJECTS for Python objects"
