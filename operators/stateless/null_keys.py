"""Null keys: a record with a null key is a bad record, unless its keyed operator accepts null as a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, WATERMARK, shown_name
from streamflow.errors import RecordError, Where
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import Collector
from streamflow.operators.stateless.row_builder import row_dicts

__all__ = ["check_keys", "null_key", "with_keys"]


def null_key(key: str, record: Mapping[str, Any]) -> RecordError:
    """The error of a record whose key is null."""
    return RecordError(
        f"the key {shown_name(key)!r} is null",
        record=record,
        hint='filter such records out, or make null a key where keys are given: null_keys="group"',
    )


def check_keys(frame: pl.DataFrame, keys: Sequence[str], operator: str) -> None:
    """Raises RecordError for null keys, with the first record that has one."""
    for error in _errors(frame, keys, 1):
        raise error.at(Where(operator=operator))


def with_keys(
    batch: FrameBatch, keys: Sequence[str], guard: Guard, out: Collector, shown: Sequence[str] | None = None
) -> FrameBatch:
    """The records without null keys; the others are treated by the guard's policy. `shown` are the columns of a record
    as its user knows it (None: all)."""
    errors = _errors(batch.frame, keys, len(batch), shown)
    if not errors:
        return batch
    guard.bad(errors, out)
    return FrameBatch(batch.frame.filter(pl.all_horizontal(pl.col(*keys).is_not_null())))


def _errors(
    frame: pl.DataFrame, keys: Sequence[str], most: int, shown: Sequence[str] | None = None
) -> list[RecordError]:
    missing = [key for key in keys if frame[key].null_count()]
    if not missing:
        return []
    bad = frame.filter(pl.any_horizontal(pl.col(*missing).is_null())).head(most)
    rows = list(row_dicts(bad.drop(EVENT_TIME, WATERMARK, strict=False)))
    records = rows if shown is None else row_dicts(bad.select(*shown))
    return [
        null_key(next(key for key in missing if row[key] is None), record)
        for row, record in zip(rows, records, strict=True)
    ]
