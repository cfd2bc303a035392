"""The fields of structs by their places: Polars takes some names of fields for patterns of names."""

from __future__ import annotations

from typing import cast

import polars as pl

from streamflow.core.schema import is_pattern

__all__ = ["field_columns", "field_expressions"]


def field_expressions(column: pl.Expr, dtype: pl.Struct) -> list[tuple[str, pl.DataType, pl.Expr]]:
    """(name, type, expression for the values) of each field of a column of this type.

    >>> fields = field_expressions(pl.col("s"), pl.Struct({"*": pl.Int8}))
    >>> pl.DataFrame({"s": [{"*": 1}]}).select(value.alias(name) for name, _, value in fields).rows()
    [(1,)]
    """
    names = [field.name for field in dtype.fields]
    types = [field.dtype if isinstance(field.dtype, pl.DataType) else field.dtype() for field in dtype.fields]
    asked = names
    if any(map(is_pattern, names)):
        asked = [str(place) for place in range(len(names))]
        column = column.struct.rename_fields(asked)
    values = [column.struct.field(name) for name in asked]
    return list(zip(names, cast("list[pl.DataType]", types), values, strict=True))


def field_columns(values: pl.Series) -> list[pl.Series]:
    """The values of each field of a column of structs, under a name that stands for itself.

    >>> [column.drop_nulls().to_list() for column in field_columns(pl.Series([{"^a$": 1, "b": 2}]))]
    [[1], [2]]
    """
    return [column.alias("field") for column in values.struct.unnest().get_columns()]
