"""Frames of the same columns as one, for types that are known only at run time and differ from batch to batch.

Nulls take any type and numbers the narrowest one that holds all of them exactly. Anything else that differs is an
error: Polars' own common type would turn 9 and "10" into text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

import polars as pl

from streamflow.core.values import EXACT, type_instance
from streamflow.errors import RecordError

__all__ = ["alike", "concatenated"]


_NARROW: Final = frozenset({pl.Int8(), pl.Int16(), pl.Int32(), pl.UInt8(), pl.UInt16(), pl.UInt32()})


def concatenated(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The given frames (at least one, all of the same columns) as one; raises RecordError if a column's types have
    none in common.

    >>> concatenated([pl.DataFrame({"n": [1]}), pl.DataFrame({"n": [None]}), pl.DataFrame({"n": [0.5]})])["n"].to_list()
    [1.0, None, 0.5]
    """
    first = frames[0]
    if len(frames) == 1:
        return first
    # The same as `schema`, at a fifth of its cost.
    names, types = first.columns, first.dtypes
    if all(frame.columns == names and frame.dtypes == types for frame in frames[1:]):
        return pl.concat(frames, how="vertical", rechunk=False)
    for name in first.columns:
        _check(name, [frame[name] for frame in frames if name in frame.columns])
    # Frames kept by an earlier version may lack a column.
    complete = all(frame.columns == first.columns for frame in frames)
    return pl.concat(frames, how="vertical_relaxed" if complete else "diagonal_relaxed", rechunk=False)


def alike(
    left: pl.DataFrame, right: pl.DataFrame, columns: Iterable[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The two frames with these columns cast to one type, so that they can be compared; raises RecordError as above.

    >>> left, right = alike(pl.DataFrame({"k": [2]}), pl.DataFrame({"k": [1.5]}), ["k"])
    >>> left.schema == right.schema
    True
    """
    differing = [name for name in columns if left.schema[name] != right.schema[name]]
    if not differing:
        return left, right
    for name in differing:
        _check(name, [left[name], right[name]])
    empty = pl.concat(
        [left.select(differing).clear(), right.select(differing).clear()], how="vertical_relaxed"
    )
    wanted = [pl.col(name).cast(dtype) for name, dtype in empty.schema.items()]
    return left.with_columns(wanted), right.with_columns(wanted)


def _check(name: str, columns: Sequence[pl.Series]) -> None:
    """Raises RecordError if these columns have no common type that loses nothing."""
    types = list(dict.fromkeys(column.dtype for column in columns))
    for left, right in combinations(types, 2):
        if not _fit(left, right):
            raise RecordError(
                f"{name!r} is {left} in some records and {right} in others",
                hint="annotate the function's result, or give schema=, so that every value has one type",
            )
    if any(dtype.is_float() for dtype in types):
        for column in columns:
            # Narrower types cannot hold such numbers, and Polars refuses to compare them with a number that they
            # cannot hold.
            wide = column.dtype.is_integer() and column.dtype not in _NARROW
            if wide and len(large := column.filter(column.abs() > EXACT)):
                raise RecordError(
                    f"{name!r} is {large[0]} in some records and a float in others, which has no room for its digits",
                    hint="give integers of that size as text, or floats as decimal numbers",
                )


def _fit(left: pl.DataType, right: pl.DataType) -> bool:
    """Whether two types have a common type of the same kind."""
    if left == right or pl.Null() in (left, right):
        return True
    if left.is_numeric() and right.is_numeric():
        return left.is_decimal() == right.is_decimal()
    if isinstance(left, pl.List) and isinstance(right, pl.List):
        return _fit(type_instance(left.inner), type_instance(right.inner))
    if isinstance(left, pl.Struct) and isinstance(right, pl.Struct):
        fields = {field.name: type_instance(field.dtype) for field in left.fields}
        return all(
            _fit(fields[field.name], type_instance(field.dtype))
            for field in right.fields
            if field.name in fields
        )
    return False
