"""The columns of a stream, known when the job is built.

A stream either has a `Schema` (names and Polars types, in order) or holds Python objects (`OBJECTS`). Reserved
columns travel beside the user's: event time and, for changing results, the change kind.
"""

from __future__ import annotations

import datetime as dt
import types
import typing
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, final

import polars as pl

from streamflow.errors import JobDefinitionError, Where, unknown_name

__all__ = [
    "CHANGE",
    "CHANGE_TYPE",
    "EVENT_TIME",
    "EVENT_TIME_TYPE",
    "OBJECTS",
    "WATERMARK",
    "Objects",
    "Schema",
    "StreamSchema",
    "annotated_type",
    "check_not_reserved",
    "is_pattern",
    "key_column",
    "shown_name",
]

EVENT_TIME: Final = "__event_time"
EVENT_TIME_TYPE: Final = pl.Datetime("us", "UTC")
WATERMARK: Final = "__watermark"
"""The watermark right before each record, typed like event time; present only if a process behind has timers."""
CHANGE: Final = "change"
CHANGE_TYPE: Final = pl.Enum(["insert", "update_before", "update_after", "delete"])


@final
class Objects:
    """The schema of a stream of Python values; there is one instance, `OBJECTS`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "OBJECTS"


OBJECTS: Final = Objects()


class Schema(Mapping[str, pl.DataType]):
    """Column names to types (Polars' or Python's), in order; immutable and without the reserved event-time column.

    >>> Schema({"origin": str, "delay": pl.Float64})
    Schema(origin: String, delay: Float64)
    """

    __slots__ = ("_fields", "optional")

    def __init__(self, fields: Mapping[str, Any], *, optional: Iterable[str] = ()) -> None:
        """`optional` names fields that a record of a user's function may leave out; they are null then."""
        resolved: dict[str, pl.DataType] = {}
        if not isinstance(fields, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise JobDefinitionError(
                f"schema is {fields!r}, which is no mapping",
                hint='write it like {"origin": str, "delay": float}',
            )
        for name, dtype in fields.items():
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise JobDefinitionError(f"a column cannot be named {name!r}", hint="a name is text")
            check_not_reserved([name])
            resolved[name] = _instance(name, dtype)
        self._fields = resolved
        self.optional = frozenset(optional)

    def __getitem__(self, name: str) -> pl.DataType:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{name}: {dtype}' for name, dtype in self._fields.items())})"

    def __hash__(self) -> int:
        return hash(tuple(self._fields))

    def empty(self, *, timed: bool) -> pl.DataFrame:
        """A frame of no rows with these columns (and event time, where `timed`)."""
        fields = dict(self._fields)
        if timed:
            fields[EVENT_TIME] = EVENT_TIME_TYPE
        return pl.DataFrame(schema=fields)

    def need(self, name: str, *, where: Where | None = None) -> pl.DataType:
        """The type of a column that has to exist; raises JobDefinitionError with the nearest name."""
        if name not in self._fields:
            message, hint = unknown_name("column", name, self._fields)
            raise JobDefinitionError(message, where=where, hint=hint)
        return self._fields[name]


StreamSchema = Schema | Objects

_SET_APART: Final = "\x1a"


def is_pattern(name: str) -> bool:
    """Whether a name stands for columns of other names in Polars.

    >>> is_pattern("^dep_.*$"), is_pattern("^")
    (True, False)
    """
    return name == "*" or (len(name) > 1 and name.startswith("^") and name.endswith("$"))


def check_not_reserved(names: Iterable[str | None]) -> None:
    """Raises JobDefinitionError if one of a user's names is that of event time or of the watermark, or stands for other
    names in Polars."""
    for name in names:
        if name in (EVENT_TIME, WATERMARK):
            raise JobDefinitionError(f"a column cannot be named {name!r}", hint="choose another name")
        if name is not None and is_pattern(name):
            raise JobDefinitionError(
                f"a column cannot be named {name!r}: that is a pattern of names for Polars",
                hint="rename it where it is made, before it is read",
            )


def key_column(name: str, taken: Container[str] = ()) -> str:
    """The column that carries a key of this name: another name if a column of the records has `taken` it, or if it
    begins with `__`, like the columns that operators add.

    >>> key_column("origin"), shown_name(key_column("__n"))
    ('origin', '__n')
    """
    apart = name in taken or name.startswith(("__", _SET_APART))
    return _SET_APART + name if apart else name


def shown_name(column: str) -> str:
    """The name of the key in a column that `key_column` gave."""
    return column.removeprefix(_SET_APART)


def is_shown(column: str) -> bool:
    """Whether a column may be a user's own, not one that an operator added.

    >>> [name for name in ("v", "__all_records", "__in0") if is_shown(name)]
    ['v']
    """
    return not column.startswith(("__", _SET_APART))


def annotated_type(
    annotation: Any, own: Callable[[Any], pl.DataType | None] | None = None
) -> pl.DataType | None:
    """The type of a column for a Python type, for a list of one, or for one that may be None; None for any other.
    `own` is asked first, for types beyond Python's own.

    >>> annotated_type(int), annotated_type(list[str | None])
    (Int64, List(String))
    """
    known = None if own is None else own(annotation)
    if known is not None:
        return known
    if annotation in _PYTHON:
        return _PYTHON[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return annotated_type(rest[0], own) if len(rest) == 1 else None
    if origin in (list, Sequence) and len(arguments) == 1:
        inner = annotated_type(arguments[0], own)
        return None if inner is None else pl.List(inner)
    return None


_PYTHON: Final[dict[Any, pl.DataType]] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    bytes: pl.Binary(),
    dt.datetime: EVENT_TIME_TYPE,
    dt.date: pl.Date(),
    dt.time: pl.Time(),
    dt.timedelta: pl.Duration("us"),
}


def _instance(name: str, dtype: Any) -> pl.DataType:
    """A type as an instance: `sf.Datetime` alone is event time's own type, a Python type its Polars type, a class of
    Polars' is instantiated; the element types of lists and structs likewise."""
    if dtype is pl.Datetime:
        return EVENT_TIME_TYPE
    match dtype:
        case pl.List():
            return pl.List(_instance(name, dtype.inner))
        case pl.Array():
            return pl.Array(_instance(name, dtype.inner), dtype.size)
        case pl.Struct():
            return pl.Struct({field.name: _instance(name, field.dtype) for field in dtype.fields})
        case pl.DataType():
            return dtype
        case _:
            pass
    try:
        known = annotated_type(dtype)
        if known is not None:
            return known
        if isinstance(dtype, type) and issubclass(dtype, pl.DataType):
            return dtype()
    except TypeError:
        pass  # a type without its parameters, or nothing that could be a type
    raise JobDefinitionError(
        f"column {name!r} has type {dtype!r}, which is no column type",
        hint="write sf.String, sf.Int64, sf.Datetime, sf.List(sf.String), … or str, int, datetime, list[str]",
    )
