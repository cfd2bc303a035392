"""The halves of an update that go different ways: without its other half, an old row is a delete and a new one an
insert, which say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, TypeVar, cast

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, CHANGE_TYPE
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.operators.contract.operator import ErrorPolicy

__all__ = ["HALVES", "ROW", "judged", "judged_batch", "judges", "of_lone_rows", "updated", "with_lone"]

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


def updated(change: pl.Expr) -> pl.Expr:
    """Whether each change (as text) is the old half of an update whose new half is right behind it."""
    return ((change == "update_before") & (change.shift(-1) == "update_after")).fill_null(False)


def judged(frame: Frame) -> Frame:
    """Some changes of a batch, with their numbers there in ROW, which goes: an update stays one if both halves, which
    stood next to each other, are here."""
    change, row = pl.col(CHANGE).cast(pl.String), pl.col(ROW)
    whole = updated(change) & (row.shift(-1) == row + 1).fill_null(False)
    kind = pl.when(whole | whole.shift(1, fill_value=False)).then(change).otherwise(_lone(change))
    return frame.with_columns(kind.cast(CHANGE_TYPE).alias(CHANGE)).drop(ROW)


def judges(inputs: Sequence[StreamType], policy: ErrorPolicy) -> bool:
    """Whether an operator may put out one half of an update without the other: it leaves out bad records."""
    return bool(inputs[0].changes) and policy != "fail"


def judged_batch(batch: AnyBatch, places: Iterable[int]) -> AnyBatch:
    """Some changes of a batch, of which these are the places there, in columns or as dicts: likewise."""
    if isinstance(batch, FrameBatch):
        if CHANGE not in batch.frame.columns:
            return batch
        return FrameBatch(judged(batch.frame.hstack([pl.Series(ROW, list(places), pl.Int64)])))
    kinds = [_kind(value) for value in batch.values]
    at = [*places]
    values = list(batch.values)
    for place, kind in enumerate(kinds):
        other = place + 1 if kind == "update_before" else place - 1
        pair = 0 <= other < len(kinds) and at[other] - at[place] == other - place
        if kind in _LONE and not (pair and {kind, kinds[other]} == _LONE.keys()):
            values[place] = {**values[place], CHANGE: _LONE[kind]}
    return RowBatch(values, batch.times, batch.marks)


def _kind(value: Any) -> str:
    return str(cast("Mapping[str, Any]", value).get(CHANGE)) if isinstance(value, Mapping) else ""


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
