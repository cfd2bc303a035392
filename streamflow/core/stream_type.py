"""The type of a stream, known when the job is built: its columns, event time, kinds of change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from streamflow.core.batch import Layout
from streamflow.core.schema import Schema, StreamSchema

__all__ = ["EVERY_CHANGE", "ChangeKind", "StreamType"]

ChangeKind = Literal["insert", "update_before", "update_after", "delete"]
"""A record's part in a changing result: a new row, a row's old and new value, a row that is gone."""
EVERY_CHANGE: Final[frozenset[ChangeKind]] = frozenset({"insert", "update_before", "update_after", "delete"})


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
