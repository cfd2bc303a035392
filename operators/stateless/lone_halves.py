"""The halves of an update that go different ways: without its other half, an old row is a delete and a new one an
insert, which say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar, cast

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE
from streamflow.core.stream_type import ChangeKind

__all__ = ["HALVES", "ROW", "judged", "of_lone_rows", "with_lone"]

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
HALVES: Final[frozenset[ChangeKind]] = frozenset({"insert", "delete"})
"""The kinds that halves of updates may become."""
ROW: Final = "\x1arow"
"""The number of a record in its batch."""
_LONE: Final = {"update_before": "delete", "update_after": "insert"}


def _lone(change: pl.Expr) -> pl.Expr:
    """The kinds of changes (as text) of which each stands alone."""
    return change.replace(_LONE)


def with_lone(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Changes of which each stands alone."""
    return frame.with_columns(_lone(pl.col(CHANGE).cast(pl.String)).cast(CHANGE_TYPE))


def judged(frame: Frame) -> Frame:
    """Some changes of a batch, with their numbers there in ROW, which goes: an update stays one if both halves, which
    stood next to each other, are here."""
    change, row = pl.col(CHANGE).cast(pl.String), pl.col(ROW)
    before, after = change == "update_before", change == "update_after"
    with_next = before & (after.shift(-1) & (row.shift(-1) == row + 1)).fill_null(False)
    with_last = after & (before.shift(1) & (row.shift(1) + 1 == row)).fill_null(False)
    kind = pl.when(with_next | with_last).then(change).otherwise(_lone(change))
    return frame.with_columns(kind.cast(CHANGE_TYPE).alias(CHANGE)).drop(ROW)


def of_lone_rows(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of changes as rows, of which each is to stand alone."""

    @wraps(function, updated=())
    def called(row: Any) -> Any:
        if isinstance(row, Mapping):
            fields = cast("Mapping[str, Any]", row)
            kind = _LONE.get(str(fields.get(CHANGE)))
            if kind is not None:
                return function({**fields, CHANGE: kind})
        return function(row)

    return called
