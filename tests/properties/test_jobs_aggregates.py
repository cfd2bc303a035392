"""Every built-in aggregate of whole jobs against Polars' arithmetic on the finished data, however it was cut up."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow import col
from streamflow.windows.aggregates import Aggregate
from tests.properties.job_model import Way, share, ways
from tests.properties.spread import Spread

SCHEMA = {"key": pl.String, "ts": pl.Int64, "i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean}
WINDOW = 20

floats = st.floats(-1e6, 1e6, allow_nan=False, width=32)
records = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from("ab"),
            "ts": st.integers(0, 39),
            "i": st.none() | st.integers(-50, 50),
            "f": st.none() | floats,
            "s": st.none() | st.text(max_size=2),
            "b": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=25,
)
columns = ways().map(lambda way: Way(way.mode, way.parallelism, way.rows, way.slices, "columns"))


def in_order(value: str) -> pl.Expr:
    """The values by event time, those of one moment by value, null first: what first, last and lists go by."""
    return pl.col(value).sort_by("ts", value)


EXACT: dict[str, tuple[Aggregate, pl.Expr]] = {
    "count": (sf.count(), pl.len().cast(pl.Int64)),
    "count_of": (sf.count("f"), pl.col("f").count().cast(pl.Int64)),
    "sum": (sf.sum("i"), pl.col("i").sum()),
    "sum_of_flags": (sf.sum("b"), pl.col("b").cast(pl.Int64).sum()),
    "sum_of_expression": (sf.sum(col("i") * 2), (pl.col("i") * 2).sum()),
    "min": (sf.min("i"), pl.col("i").min()),
    "max": (sf.max("f"), pl.col("f").max()),
    "min_text": (sf.min("s"), pl.col("s").min()),
    "max_text": (sf.max("s"), pl.col("s").max()),
    "first": (sf.first("s"), in_order("s").first()),
    "last": (sf.last("i"), in_order("i").last()),
    "any": (sf.any("b"), pl.col("b").any()),
    "all": (sf.all("b"), pl.col("b").all()),
    "n_unique": (sf.n_unique("s"), pl.col("s").n_unique().cast(pl.Int64)),
    "n_unique_of_numbers": (sf.n_unique("f"), pl.col("f").n_unique().cast(pl.Int64)),
    "median": (sf.quantile("i", 0.5), pl.col("i").quantile(0.5)),
    "listed": (sf.collect_list("s"), in_order("s").implode()),
    "top": (sf.top_k("i", 3), pl.col("i").drop_nulls().sort(descending=True).head(3).implode()),
    "top_by": (
        sf.top_k("i", 2, by="f"),
        pl.struct("f", "i")
        .filter(pl.col("f").is_not_null())
        .sort(descending=True)
        .head(2)
        .struct.field("i")
        .implode(),
    ),
}


FOLDED: dict[str, tuple[Aggregate, pl.Expr]] = {
    "about_n_unique": (sf.approx_n_unique("i"), pl.col("i").n_unique().cast(pl.Int64)),
    "about_largest": (sf.approx_quantile("f", 1), pl.col("f").max()),
    "own": (Spread("i"), (pl.col("i").max() - pl.col("i").min()).fill_null(0)),
    "length": (sf.max(lambda row: len(row["s"] or "")), pl.col("s").str.len_chars().fill_null(0).max()),
}
ROUNDED: dict[str, tuple[Aggregate, pl.Expr]] = {
    "sum_of_floats": (sf.sum("f"), pl.col("f").sum()),
    "quantile": (
        sf.quantile("f", 0.9, interpolation="linear"),
        pl.col("f").quantile(0.9, interpolation="linear"),
    ),
    "mean": (sf.mean("f"), pl.col("f").mean()),
    "mean_of_integers": (sf.mean("i"), pl.col("i").mean()),
    "std": (sf.std("f"), pl.col("f").std()),
    "var": (sf.var("i"), pl.col("i").var()),
    "var_of_all": (sf.var("f", ddof=0), pl.col("f").var(ddof=0)),
}


def both(
    rows: list[dict[str, Any]], way: Way, chosen: dict[str, tuple[Aggregate, pl.Expr]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The results of a windowed job, and those of Polars for the same records in one go; a row per key and window."""
    frame = pl.DataFrame(rows, schema=SCHEMA)
    job = sf.Job("aggregates")
    stream = job.read(
        sf.MemorySource(frame, batch_rows=way.rows),
        event_time=sf.epoch("ts", unit="us"),
        watermark=sf.bounded_disorder("40us"),
    )
    windows = stream.key_by("key").window(sf.tumbling(f"{WINDOW}us"))
    out = windows.aggregate(**{name: aggregate for name, (aggregate, _) in chosen.items()}).collect()
    job.run(**way.settings)
    start = (pl.col("ts") // WINDOW * WINDOW).alias("start")
    direct = frame.group_by("key", start).agg(
        expression.alias(name) for name, (_, expression) in chosen.items()
    )
    ours = out.frame().with_columns(pl.col("window_start").to_physical().alias("start"))
    order = ["key", "start"]
    return ours.select(direct.columns).sort(order), direct.sort(order)


@share(2)
@given(rows=records, way=columns)
def test_exact_aggregates_are_polars_own(rows: list[dict[str, Any]], way: Way) -> None:
    ours, direct = both(rows, way, EXACT)
    for name in direct.columns:
        assert ours[name].to_list() == direct[name].to_list(), name


@share(2)
@given(rows=records, way=columns)
def test_sums_of_floats_are_polars_own_but_for_rounding(rows: list[dict[str, Any]], way: Way) -> None:
    ours, direct = both(rows, way, ROUNDED)
    for name in ROUNDED:
        for mine, theirs in zip(ours[name], direct[name], strict=True):
            if theirs is None:
                assert mine is None, name
            else:
                assert mine == pytest.approx(theirs, rel=1e-7, abs=1e-3), name


ALL = EXACT | FOLDED


@share(1)
@given(
    rows=records,
    names=st.lists(st.sampled_from(sorted(ALL)), min_size=2, max_size=5, unique=True),
    kind=st.sampled_from(["running", "session", "tumbling", "sliding", "global"]),
    way=columns,
)
def test_aggregates_in_any_order_beside_each_other(
    rows: list[dict[str, Any]], names: list[str], kind: str, way: Way
) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    job = sf.Job("beside")
    event_time = sf.epoch("ts", unit="us")
    source = sf.MemorySource(frame, batch_rows=way.rows)
    stream = job.read(source, event_time=event_time, watermark=sf.bounded_disorder("10us"))
    keyed = stream.key_by("key")
    # All records of a key are in one window, whatever the kind.
    windows = {
        "session": sf.session(gap="40us"),
        "tumbling": sf.tumbling("40us"),
        "sliding": sf.sliding("40us", every="40us"),
        "global": sf.global_window(),
    }
    into = keyed if kind == "running" else keyed.window(windows[kind], allowed_lateness="40us")
    out = into.aggregate(**{name: ALL[name][0] for name in names}).collect()
    job.run(**way.settings)
    expected = {
        row["key"]: row
        for row in frame.group_by("key").agg(ALL[n][1].alias(n) for n in names).rows(named=True)
    }
    last = {row["key"]: row for row in out.rows() if row.get("change") != "update_before"}
    assert {key: {n: row[n] for n in names} for key, row in last.items()} == {
        key: {n: row[n] for n in names} for key, row in expected.items()
    }


@share(2)
@given(
    values=st.lists(st.one_of(floats, st.integers(0, 5).map(float)), min_size=1, max_size=200),
    q=st.floats(0, 1),
    way=columns,
)
def test_approximate_quantiles_lie_near_the_exact_ones(values: list[float], q: float, way: Way) -> None:
    """By rank: a t-digest says nothing about distances between values."""
    estimate = _global(values, way, sf.approx_quantile("x", q))
    ordered = sorted(values)
    low, high = bisect_left(ordered, estimate) / len(values), bisect_right(ordered, estimate) / len(values)
    slack = 0.02 + 1 / len(values)
    assert low - slack <= q <= high + slack
    assert min(values) <= estimate <= max(values)


@share(2)
@given(different=st.integers(0, 3_000), again=st.integers(1, 3), way=columns)
def test_approximate_distinct_counts_lie_within_their_error(different: int, again: int, way: Way) -> None:
    values = [float(n) for n in range(different)] * again
    bigger = Way(way.mode, way.parallelism, rows=500, slices=500)
    estimate = _global([*values, -1.0], bigger, sf.approx_n_unique("x"))
    # Five standard errors of 1.5 %.
    assert abs(estimate - (different + 1)) <= max(1, math.ceil(0.075 * (different + 1)))


@share(2)
@given(rows=records, way=ways())
def test_an_own_aggregator_is_called_for_each_record_once(rows: list[dict[str, Any]], way: Way) -> None:
    class Longest(sf.Aggregator):
        def create(self) -> list[Any]:
            return [0, ""]

        def add(self, accumulator: list[Any], value: str | None) -> list[Any]:
            return self.merge(accumulator, [1, value or ""])

        def merge(self, left: list[Any], right: list[Any]) -> list[Any]:
            return [left[0] + right[0], max(left[1], right[1], key=by_length)]

        def result(self, accumulator: list[Any]) -> str:
            return f"{accumulator[0]} {accumulator[1]}"

    def by_length(text: str) -> tuple[int, str]:
        return len(text), text

    job = sf.Job("own")
    stream = job.read(sf.MemorySource(pl.DataFrame(rows, schema=SCHEMA), batch_rows=way.rows))
    out = stream.key_by("key").aggregate(longest=Longest("s")).collect()
    job.run(**way.settings)
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row["key"], []).append(row["s"] or "")
    standing = {row["key"]: row["longest"] for row in out.rows() if row["change"] != "update_before"}
    assert standing == {key: f"{len(mine)} {max(mine, key=by_length)}" for key, mine in texts.items()}


def _global(values: list[float], way: Way, aggregate: Aggregate) -> Any:
    frame = pl.DataFrame({"x": values, "key": "k", "ts": 0}, schema_overrides={"x": pl.Float64})
    job = sf.Job("estimate")
    stream = job.read(sf.MemorySource(frame, batch_rows=way.rows), event_time=sf.epoch("ts"))
    out = stream.key_by("key").window(sf.global_window()).aggregate(estimate=aggregate).collect()
    job.run(**way.settings)
    (row,) = out.rows()
    return row["estimate"]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.Struct({"x": pl.Float32})])
def test_zeros_of_both_signs_are_one_value_in_lists_and_structs(dtype: pl.DataType) -> None:
    numbers = [0.0, -0.0, float("nan"), -float("nan"), 1.0]
    values = [[each] if isinstance(dtype, pl.List) else {"x": each} for each in numbers]
    job = sf.Job("zeros")
    keyed = job.read(sf.MemorySource(pl.DataFrame({"v": pl.Series(values, dtype=dtype)}))).key_by(
        pl.lit(0).alias("k")
    )
    out = keyed.aggregate(exact=sf.n_unique("v"), about=sf.approx_n_unique("v")).collect()
    job.run(mode="batch")
    assert out.frame()[-1, "exact"] == out.frame()[-1, "about"] == 3
