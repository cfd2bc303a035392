"""The rows that look-ups in frame stores go over, counted: the same on every machine."""

from __future__ import annotations

import polars as pl
import pytest

from streamflow.state.frames.merging import Merging

__all__ = ["RowsGoneOver"]


class RowsGoneOver:
    """The `count` of rows that look-ups have gone over; a test sets it back to 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        rows = Merging.rows

        def watched(merging: Merging, frame: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
            self.count += frame.height
            return rows(merging, frame, keys)

        monkeypatch.setattr(Merging, "rows", watched)
