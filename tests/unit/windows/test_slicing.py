"""Window assignment, as Flink's TimeWindowTest and SlidingEventTimeWindowsTest state it (in milliseconds there)."""

import polars as pl
import pytest

from streamflow.windows.assigners import Sliding, Tumbling
from streamflow.windows.slicing import Slicing


def windows_of(assigner: Tumbling | Sliding, time: int) -> list[tuple[int, int]]:
    slicing = Slicing.of(assigner)
    return [(start, start + assigner.size) for start in slicing.windows(slicing.start(time))]


@pytest.mark.parametrize(
    ("size", "offset", "time", "start"),
    [
        (7, 0, 1, 0),
        (7, 0, 6, 0),
        (7, 0, 7, 7),
        (7, 0, 8, 7),
        (7, 3, 1, -4),
        (7, 3, 2, -4),
        (7, 3, 3, 3),
        (7, 3, 9, 3),
        (7, 3, 10, 10),
        (7, -2, 1, -2),
        (7, -2, -2, -2),
        (7, -2, 3, -2),
        (7, -2, 4, -2),
        (7, -2, 7, 5),
        (7, -2, 12, 12),
        (86_400_000, -28_800_000, 1_470_902_048_450, 1_470_844_800_000),  # a day in GMT+8
    ],
)
def test_tumbling_starts(size: int, offset: int, time: int, start: int) -> None:
    assert windows_of(Tumbling(size, offset), time) == [(start, start + size)]


@pytest.mark.parametrize(
    ("offset", "time", "first"),
    [
        (0, 0, -4000),
        (0, 4999, 0),
        (0, 5000, 1000),
        (100, 100, -3900),
        (100, 5099, 100),
        (100, 5100, 1100),
        (-100, 0, -4100),
        (-100, 4899, -100),
        (-100, 4900, 900),
        (500, 100, -4500),
        (500, 5499, 500),
        (500, 5100, 500),
    ],
)
def test_sliding_windows_of_five_every_one(offset: int, time: int, first: int) -> None:
    expected = [(first + step * 1000, first + step * 1000 + 5000) for step in range(5)]
    assert windows_of(Sliding(5000, 1000, offset), time) == expected


def test_a_slide_longer_than_the_size_leaves_gaps() -> None:
    assigner = Sliding(3, 10)
    assert windows_of(assigner, 2) == [(0, 3)]
    assert windows_of(assigner, 3) == []
    assert windows_of(assigner, 9) == []
    assert windows_of(assigner, -8) == [(-10, -7)]
    assert windows_of(assigner, -7) == []


def test_odd_sizes_need_two_slices_per_slide() -> None:
    slicing = Slicing.of(Sliding(size=10_000, every=3_001))
    starts = {slicing.start(time) for time in range(3_001)}
    assert len(starts) == 2


@pytest.mark.parametrize(
    "assigner", [Tumbling(7, 3), Sliding(10, 3), Sliding(10, 4, 1), Sliding(3, 10, -2), Sliding(4, 2)]
)
def test_integers_series_and_expressions_agree_with_the_definition(assigner: Tumbling | Sliding) -> None:
    slicing = Slicing.of(assigner)
    times = list(range(-25, 26))
    column = pl.Series("t", times, dtype=pl.Int64)
    frame = column.to_frame()
    starts = [slicing.start(time) for time in times]
    assert slicing.start(column).to_list() == starts
    assert frame.select(slicing.start(pl.col("t"))).to_series().to_list() == starts
    slices = pl.Series("t", starts)
    assert slicing.last_end(slices).to_list() == [slicing.last_end(start) for start in starts]
    assert slicing.end_after(slices).to_list() == [slicing.end_after(start) for start in starts]
    size, every, offset = slicing.size, slicing.every, slicing.offset
    for time, start in zip(times, starts, strict=True):
        holding = [s for s in range(time - size + 1, time + 1) if (s - offset) % every == 0]
        assert list(slicing.windows(start)) == holding
        ends = [s + size for s in holding]
        if ends:
            assert (slicing.end_after(start), slicing.last_end(start)) == (min(ends), max(ends))
            numbered = [slicing.nth_end(start, number) for number in range(slicing.per_slice)]
            around = [end for end in numbered if slicing.start_of(end) <= start < end]
            assert sorted(around) == sorted(ends)
        else:
            assert slicing.last_end(start) <= start


def test_window_ends_around_a_time() -> None:
    slicing = Slicing.of(Sliding(size=10, every=4, offset=1))  # ends at 3 (mod 4)
    assert [slicing.end_until(time) for time in (-2, -1, 2, 3, 6)] == [-5, -1, -1, 3, 3]
    assert [slicing.end_after(time) for time in (-2, -1, 2, 3, 6)] == [-1, 3, 3, 7, 7]
