"""The type of a stream, known when the job is built: its columns, event time, kinds of change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import polars as pl

from streamflow.core.batch import Layout
from streamflow.core.schema import CHANGE, Schema, StreamSchema
from streamflow.errors import JobDefinitionError

__all__ = ["EVERY_CHANGE", "WITHDRAWN", "ChangeKind", "StreamType", "lack_of_kinds", "withdraws"]

Column = TypeVar("Column", pl.Expr, pl.Series)

ChangeKind = Literal["insert", "update_before", "update_after", "delete"]
"""A record's part in a changing result: a new row, a row's old and new value, a row that is gone."""
EVERY_CHANGE: Final[frozenset[ChangeKind]] = frozenset({"insert", "update_before", "update_after", "delete"})
WITHDRAWN: Final[frozenset[ChangeKind]] = frozenset({"update_before", "delete"})
"""The kinds of changes that take a row back."""


@dataclass(frozen=True, slots=True)
class StreamType:
    """The type of a stream, known when the job is built: its columns, whether records have event times (in the column
    EVENT_TIME, apart from the user's), and the kinds of change that they may be.

    `changes`: its records are changes of a result, of these kinds, and the column CHANGE says each one's; no kinds: its
    records are records, and a column of that name is the user's.

    >>> StreamType(Schema({"n": int}), timed=False).changes
    frozenset()
    """

    schema: StreamSchema
    timed: bool
    changes: frozenset[ChangeKind] = frozenset()

    @property
    def layout(self) -> Layout:
        """The layout of the stream's batches: frames if it has columns, rows if it holds objects."""
        return Layout.FRAME if isinstance(self.schema, Schema) else Layout.ROWS


def withdraws(kinds: Column) -> Column:
    """Whether each change takes a row back, by its kind.

    >>> withdraws(pl.Series(["insert", "update_before", "update_after", "delete"])).to_list()
    [False, True, False, True]
    """
    return kinds.cast(pl.String).is_in(sorted(WITHDRAWN))


def lack_of_kinds(what: str, hint: str) -> JobDefinitionError:
    """The error for changes whose column CHANGE has been left out."""
    return JobDefinitionError(
        f"{what} are changes of a result, but lack their kind: the column {CHANGE!r} is gone", hint=hint
    )
