"""The columns of a stream, known when the job is built.

A stream either has a `Schema` (names and Polars types, in order) or holds Python objects (`OBJECTS`). Reserved
columns travel beside the user's: event time and, for changing results, the change kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, final

import polars as pl

from streamflow.errors import JobDefinitionError, Where, unknown_name

__all__ = [
    "CHANGE",
    "CHANGE_TYPE",
    "EVENT_TIME",
    "EVENT_TIME_TYPE",
    "OBJECTS",
    "Objects",
    "Schema",
    "StreamSchema",
]

EVENT_TIME: Final = "__event_time"
EVENT_TIME_TYPE: Final = pl.Datetime("us", "UTC")
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
    """Column names to Polars types, in order; immutable and without the reserved event-time column.

    >>> Schema({"origin": pl.String, "delay": pl.Float64})
    Schema(origin: String, delay: Float64)
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, pl.DataType | type[pl.DataType]]) -> None:
        resolved: dict[str, pl.DataType] = {}
        for name, dtype in fields.items():
            if name == EVENT_TIME:
                raise JobDefinitionError(f"a column cannot be named {name!r}", hint="choose another name")
            resolved[name] = _instance(name, dtype)
        self._fields = resolved

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
        """The type of a column that has to be there; raises JobDefinitionError with the nearest name."""
        if name not in self._fields:
            message, hint = unknown_name("column", name, self._fields)
            raise JobDefinitionError(message, where=where, hint=hint)
        return self._fields[name]


StreamSchema = Schema | Objects


def _instance(name: str, dtype: object) -> pl.DataType:
    """`sf.Datetime` alone means event time's own type; any other bare class is instantiated."""
    if dtype is pl.Datetime:
        return EVENT_TIME_TYPE
    if isinstance(dtype, pl.DataType):
        return dtype
    if not (isinstance(dtype, type) and issubclass(dtype, pl.DataType)):
        raise JobDefinitionError(
            f"column {name!r} has type {dtype!r}, which is none of Polars'",
            hint="write sf.String, sf.Int64, sf.Datetime, …",
        )
    return dtype()
