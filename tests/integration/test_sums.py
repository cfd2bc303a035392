"""Sums that their type cannot hold are errors, never other numbers; and what sums of nothing are."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col

LARGE: dict[str, tuple[list[Any], Any]] = {
    "Int64": ([2**62, 2**62, 1], sf.Int64),
    "Int64 below": ([-(2**62), -(2**62), -1], sf.Int64),
    "UInt64": ([2**63, 2**63], pl.UInt64()),
    "Decimal": ([Decimal(6 * 10**37)] * 2, pl.Decimal(38, 0)),
    "Decimal with cents": ([Decimal("6e35")] * 2, pl.Decimal(38, 2)),
    "Duration": ([dt.timedelta(days=60_000_000)] * 2, pl.Duration("us")),
}
FITTING: dict[str, tuple[list[Any], Any, Any]] = {
    "Int64": ([2**62, 2**62 - 1], sf.Int64, 2**63 - 1),
    "Int64 below": ([-(2**62), -(2**62)], sf.Int64, -(2**63)),
    "on the way": ([2**62, 2**62, -(2**62), -(2**62), 5], sf.Int64, 5),
    "UInt64": ([2**63, 2**63 - 1], pl.UInt64(), 2**64 - 1),
    "Int8": ([127] * 400, pl.Int8(), 50_800),
    "Decimal": ([Decimal(4 * 10**37)] * 2, pl.Decimal(38, 0), Decimal(8 * 10**37)),
    "Duration": ([dt.timedelta(days=40_000_000)] * 2, pl.Duration("us"), dt.timedelta(days=80_000_000)),
    "Boolean": ([True, None, True], sf.Boolean, 2),
    "nothing": ([None, None], sf.Int64, 0),
    "Float32 that has no room for the last 1": ([2.0**24, 1, 1, 1], pl.Float32(), 2.0**24 + 3),
    "beyond Float32": ([2.0**127, 2.0**127], pl.Float32(), 2.0**128),
}


def summed(values: list[Any], dtype: Any, input: Any, *, batch: int, window: bool = True, **run: Any) -> Any:
    frame = pl.DataFrame(
        {"k": ["a"] * len(values), "v": pl.Series(values, dtype=dtype), "ts": range(len(values))}
    )
    job = sf.Job("summed")
    stream = job.read(sf.MemorySource(frame, batch_rows=batch), event_time=sf.epoch("ts", unit="us"))
    keyed = stream.filter(col("ts") >= 0).key_by("k")
    into = keyed.window(sf.tumbling("1h")) if window else keyed
    out = into.aggregate(n=sf.count(), total=sf.sum(input)).collect()
    job.run(batch_rows=batch, **run)
    return out.rows()[-1]["total"]


INPUTS = {"column": "v", "function": lambda row: row["v"]}


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("name", LARGE)
def test_a_sum_that_does_not_fit_is_an_error_with_its_key(name: str, input: str, batch: int) -> None:
    values, dtype = LARGE[name]
    for window in (True, False):
        with pytest.raises(
            sf.RecordError, match=r"operator \w+-1\b.*the sum 'total' has grown too large"
        ) as failed:
            summed(values, dtype, INPUTS[input], batch=batch, window=window, mode="streaming", parallelism=2)
        assert "'k': 'a'" in str(failed.value)
        assert "-combine" not in str(failed.value)


@pytest.mark.parametrize("mode", ["streaming", "batch"])
@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("name", FITTING)
def test_a_sum_that_fits_is_right(name: str, batch: int, mode: Any) -> None:
    values, dtype, total = FITTING[name]
    assert summed(values, dtype, "v", batch=batch, mode=mode) == total
    if name != "UInt64":  # what a function gives is a whole number of 64 bits with a sign
        assert summed(values, dtype, INPUTS["function"], batch=batch, mode=mode) == total


def test_mistakes_in_aggregates_are_told_when_they_are_written() -> None:
    with pytest.raises(sf.JobDefinitionError, match=r"no interpolation 'lineer'.*did you mean 'linear'"):
        sf.quantile("v", 0.5, interpolation="lineer")  # type: ignore[arg-type]
    with pytest.raises(sf.JobDefinitionError, match="top_k by"):
        sf.top_k("v", 2, by=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("objects", [False, True])
def test_top_k_by_a_function_or_a_field(objects: bool) -> None:
    rows = [{"k": "a", "v": v, "ts": v} for v in range(9)]
    job = sf.Job("top")
    source = sf.MemorySource(rows, schema=sf.OBJECTS) if objects else sf.MemorySource(pl.DataFrame(rows))
    windows = job.read(source, event_time=sf.epoch("ts", unit="us")).key_by("k").window(sf.tumbling("1h"))
    out = windows.aggregate(
        odd=sf.top_k("v", 2, by=lambda row: (row["v"] % 2) * 100 - row["v"]),
        last=sf.top_k(lambda row: -row["v"], 2, by="ts"),
    ).collect()
    job.run()
    assert [(row["odd"], row["last"]) for row in out.rows()] == [([1, 3], [-8, -7])]


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("far", [0, 1 - 2**63, 10**18, 2**63 - 20])
def test_the_variance_of_integers_that_are_one_as_floats_is_that_of_their_distances(
    far: int, batch: int
) -> None:
    rows = [{"k": "a", "v": far + step, "ts": step} for step in range(10)]
    job = sf.Job("variance")
    stream = job.read(sf.MemorySource(rows, batch_rows=batch), event_time=sf.epoch("ts", unit="us"))
    out = stream.key_by("k").window(sf.tumbling("1h")).aggregate(var=sf.var("v"), std=sf.std("v")).collect()
    job.run(batch_rows=batch)
    assert out.rows()[0]["var"] == pytest.approx(55 / 6)
    assert out.rows()[0]["std"] == pytest.approx((55 / 6) ** 0.5)
