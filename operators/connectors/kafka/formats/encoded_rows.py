"""The common part of encoders: the columns of a batch that make up a value, and the search for a bad row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.errors import SinkError

__all__ = ["Encoder", "chosen_columns", "raise_for_row"]


class Encoder(Protocol):
    """Turns rows into the values of records; one value per row, in the rows' order."""

    def encode(self, batch: AnyBatch) -> list[bytes]:
        """The values of a batch; raises SinkError that names the first row (from 0, within the batch) that cannot be
        encoded.

        May block (a schema registry): call it on a thread.
        """
        ...


def chosen_columns(batch: AnyBatch, schema: Schema) -> pl.DataFrame:
    """The columns of a batch that make up the value, in order.

    >>> chosen_columns(FrameBatch(pl.DataFrame({"a": [1], "b": [2]})), Schema({"b": pl.Int64})).columns
    ['b']
    """
    if isinstance(batch, FrameBatch):
        frame = batch.frame
        return frame if frame.columns == list(schema) else frame[list(schema)]
    rows = [[row[name] for name in schema] for row in batch.values]
    return pl.DataFrame(rows, schema=dict(schema), orient="row")


def raise_for_row(values: Sequence[Any], encode: Callable[[Any], object]) -> None:
    """Raises the SinkError of the first value that `encode` refuses, naming its row; does nothing if it refuses
    none."""
    for row, value in enumerate(values):
        try:
            encode(value)
        except SinkError as error:
            raise SinkError(f"row {row} cannot be encoded: {error.message}", hint=error.hint) from error
