"""Slices of cumulative windows, against the windows' definition."""

import polars as pl
import pytest

from streamflow.windows.assigners import Cumulative
from streamflow.windows.cumulative_slices import CumulativeSlices


@pytest.mark.parametrize(
    "assigner", [Cumulative(12, 4), Cumulative(12, 4, 5), Cumulative(6, 1, -2), Cumulative(7, 7)]
)
def test_integers_series_and_expressions_agree_with_the_definition(assigner: Cumulative) -> None:
    slices = CumulativeSlices.of(assigner)
    times = list(range(-25, 26))
    column = pl.Series("t", times, dtype=pl.Int64)
    starts = [slices.start(time) for time in times]
    assert slices.start(column).to_list() == starts
    assert column.to_frame().select(slices.start(pl.col("t"))).to_series().to_list() == starts
    for time, start in zip(times, starts, strict=True):
        begin = max(s for s in range(-60, time + 1) if (s - assigner.offset) % assigner.size == 0)
        ends = [begin + k * assigner.step for k in range(1, assigner.size // assigner.step + 1)]
        holding = [end for end in ends if time < end]
        assert (slices.end_after(start), slices.last_end(start)) == (holding[0], holding[-1])
        numbered = [slices.nth_end(start, number) for number in range(slices.per_slice)]
        assert sorted(e for e in numbered if slices.start_of(e) <= start < e) == holding
        assert [slices.start_of(end) for end in ends] == [begin] * len(ends)
        assert list(slices.ends(holding[0], holding[-1])) == holding
        assert slices.end_until(time) == max(
            e for e in range(-60, time + 1) if (e - assigner.offset) % assigner.step == 0
        )
