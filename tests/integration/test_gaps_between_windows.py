"""Records that lie between two windows are counted, and said."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.cli.terminal.progress import ending


@pytest.mark.parametrize("late_used", [False, True])
@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
def test_records_in_no_window_are_in_the_result(mode: Any, late_used: bool) -> None:
    rows = pl.DataFrame({"k": ["a", "b"] * 10, "ts": range(20)})
    job = sf.Job("gaps")
    stream = job.read(sf.MemorySource(rows, batch_rows=3), event_time=sf.epoch("ts", unit="us"))
    results = stream.key_by("k").window(sf.sliding("2us", every="5us")).aggregate(n=sf.count())
    out = results.collect()
    if late_used:
        results.late.collect()
    result = job.run(mode=mode, parallelism=2)
    counted = sum(row["n"] for row in out.rows())
    assert (counted, result.in_no_window) == (8, 12)
    assert next(each for each in result.operators if each.kind == "window").in_no_window == 12
    assert "12 in no window" in ending(result)
    assert result.as_dict()["in_no_window"] == 12
