"""Keys of frames as Python values: the form for look-ups, and the form that users see."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from streamflow.core.one_zero import NAN
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.state.keyed.cache import key_bytes

__all__ = ["KeyColumns", "key_class", "typed_keys"]


class KeyColumns:
    """The key columns of one operator; `schema` has their types if they are known."""

    def __init__(self, names: Sequence[str], schema: dict[str, pl.DataType]) -> None:
        self._names = list(names)
        types = [schema.get(name, pl.Unknown()) for name in names]
        self.by_bytes = any(
            dtype.is_nested() or dtype == pl.Unknown() or _zone(dtype) is not None for dtype in types
        )
        """Whether keys are looked up by their bytes, since dictionaries do not find them, or may not, or take two for
        one: the times that a clock shows twice when it is put back."""
        converts = [_restored(dtype) for dtype in types]
        self.shown: Callable[[Any], Any] | None = None
        """A function from a key read back from bytes to the key that users see; None if they are the same."""
        if len(converts) == 1:
            self.shown = converts[0]
        elif any(converts):
            self.shown = lambda key: tuple(
                part if convert is None else convert(part)
                for part, convert in zip(key, converts, strict=True)
            )

    def of(self, frame: pl.DataFrame) -> tuple[Sequence[Hashable], Sequence[Any]]:
        """For each row the look-up form of its key, and the key itself."""
        columns = [_values(frame[name]) for name in self._names]
        keys: list[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        if self.by_bytes:
            return [key_bytes(key) for key in keys], keys
        return keys, keys


def _values(column: pl.Series) -> list[Any]:
    values = column.to_list()
    if column.dtype.is_float() and column.is_nan().any():
        return [NAN if value != value else value for value in values]
    return values


def _restored(dtype: pl.DataType) -> Callable[[Any], Any] | None:
    """A function that gives a number its type back, and a time its zone: they are stored without."""
    if (zone := _zone(dtype)) is not None:
        return lambda key: None if key is None else key.astimezone(zone)
    if dtype.is_float():
        return lambda key: None if key is None else float(key)
    if isinstance(dtype, pl.Boolean):
        return lambda key: None if key is None else bool(key)
    if isinstance(dtype, pl.Decimal):
        return lambda key: None if key is None else Decimal(key)
    return None


def _zone(dtype: pl.DataType) -> ZoneInfo | None:
    """The zone of a column of times, if it is another than UTC."""
    name = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    return None if name is None or name == "UTC" else ZoneInfo(name)


def key_class(dtype: pl.DataType | None) -> str:
    """The class of a key column's values, for a state's signature: types whose equal values are one key have one
    name.

    >>> key_class(pl.Int32()) == key_class(pl.Float64()), key_class(pl.String())
    (True, 'text')
    """
    if dtype is None or dtype == pl.Unknown():
        return "unknown"
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
        return "number"
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)):
        return "text"
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is None else "datetime in UTC"
    return str(dtype).lower()


def typed_keys(keys: Sequence[str], input: StreamType) -> list[list[str]]:
    """The key columns of an operator, each with its class, for a state's signature.

    >>> typed_keys(["k"], StreamType(Schema({"k": pl.Int32}), timed=False))
    [['k', 'number']]
    """
    types: Mapping[str, pl.DataType] = input.schema if isinstance(input.schema, Schema) else {}
    return [[key, key_class(types.get(key))] for key in keys]
