"""Each aggregate gives what Polars gives on the finished data, however the records are ordered and split."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from streamflow.core.common_types import concatenated
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.aggregates.partials import PartialPlan
from streamflow.windows import aggregates as sf
from streamflow.windows.aggregate import Aggregate
from tests.properties.spread import Spread

FIELDS: dict[str, pl.DataType] = {
    "key": pl.String(),
    "whole": pl.Int64(),
    "small": pl.Int16(),
    "real": pl.Float64(),
    "text": pl.String(),
    "yes": pl.Boolean(),
    "at": pl.Datetime("us", "UTC"),
    "day": pl.Date(),
    "span": pl.Duration("us"),
}
RECORDS = StreamType(Schema(FIELDS), timed=True)
START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


rows = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a", "b"]),
        "whole": maybe(st.integers(-50, 50)),
        "small": maybe(st.integers(-30_000, 30_000)),
        "real": maybe(st.floats(-1e6, 1e6)),
        "text": maybe(st.sampled_from(["", "x", "yy", "zzz"])),
        "yes": maybe(st.booleans()),
        "at": maybe(st.integers(0, 10**9).map(lambda s: START + dt.timedelta(microseconds=s))),
        "day": maybe(st.integers(0, 400).map(lambda d: dt.date(2013, 1, 1) + dt.timedelta(days=d))),
        "span": maybe(st.integers(-(10**9), 10**9).map(lambda s: dt.timedelta(microseconds=s))),
        EVENT_TIME: st.integers(0, 5).map(lambda s: START + dt.timedelta(seconds=s)),
    }
)

col = pl.col
by_time = lambda name: col(name).sort_by(EVENT_TIME, name)  # noqa: E731


CASES: dict[str, tuple[Aggregate, pl.Expr]] = {
    "count": (sf.count(), pl.len().cast(pl.Int64)),
    "count values": (sf.count("real"), col("real").count().cast(pl.Int64)),
    "sum": (sf.sum("whole"), col("whole").sum()),
    "sum of floats": (sf.sum("real"), col("real").sum()),
    "sum of narrow": (sf.sum("small"), col("small").cast(pl.Int64).sum()),
    "sum of booleans": (sf.sum("yes"), col("yes").cast(pl.Int64).sum()),
    "sum of spans": (sf.sum("span"), col("span").sum()),
    "sum of an expression": (sf.sum(col("whole") * 2 + 1), (col("whole") * 2 + 1).sum()),
    "mean": (sf.mean("real"), col("real").mean()),
    "mean of whole": (sf.mean("whole"), col("whole").mean()),
    "min": (sf.min("real"), col("real").min()),
    "max": (sf.max("whole"), col("whole").max()),
    "min of text": (sf.min("text"), col("text").min()),
    "max of times": (sf.max("at"), col("at").max()),
    "first": (sf.first("text"), by_time("text").first()),
    "last": (sf.last("whole"), by_time("whole").last()),
    "std": (sf.std("real"), col("real").std()),
    "var": (sf.var("real"), col("real").var()),
    "var of whole, ddof 0": (sf.var("whole", ddof=0), col("whole").var(ddof=0)),
    "any": (sf.any("yes"), col("yes").any()),
    "all": (sf.all("yes"), col("yes").all()),
    "n_unique": (sf.n_unique("text"), col("text").n_unique().cast(pl.Int64)),
    "approx_n_unique": (sf.approx_n_unique("whole"), col("whole").n_unique().cast(pl.Int64)),
    "approx_n_unique of text": (sf.approx_n_unique("text"), col("text").n_unique().cast(pl.Int64)),
    "quantile": (sf.quantile("real", 0.3), col("real").quantile(0.3)),
    "quantile, linear": (
        sf.quantile("whole", 0.9, interpolation="linear"),
        col("whole").quantile(0.9, interpolation="linear"),
    ),
    "collect_list": (sf.collect_list("text"), by_time("text")),
    "top_k": (sf.top_k("whole", 3), col("whole").drop_nulls().sort(descending=True).head(3)),
    "top_k by": (
        sf.top_k("text", 2, by="real"),
        col("text")
        .filter(col("real").is_not_null())
        .sort_by(pl.struct("real", "text").filter(col("real").is_not_null()), descending=True)
        .head(2),
    ),
    "reduce": (
        sf.reduce(
            lambda left, right: left if right is None else right if left is None else left + right, "whole"
        ),
        pl.when(col("whole").count() > 0).then(col("whole").sum()),
    ),
    "own": (Spread("whole"), (col("whole").max() - col("whole").min()).fill_null(0)),
}


def split_and_merged(plan: PartialPlan, frame: pl.DataFrame, data: st.DataObject) -> pl.DataFrame:
    """Partials of random pieces, merged in random groups until there is one per key."""
    pieces: list[pl.DataFrame] = []
    rest = frame
    while rest.height:
        length = data.draw(st.integers(1, rest.height))
        pieces.append(plan.partial(rest.head(length), ["key"]))
        rest = rest.tail(rest.height - length)
    while len(pieces) > 1:
        taken = data.draw(st.integers(2, len(pieces)))
        pieces = [*pieces[taken:], plan.merge(concatenated(pieces[:taken]), ["key"])]
    return plan.results(pieces[0], ["key"])


@pytest.mark.parametrize("name", CASES)
@given(items=st.lists(rows, min_size=1, max_size=25), data=st.data())
def test_any_order_and_split_gives_what_polars_gives(
    name: str, items: list[dict[str, Any]], data: st.DataObject
) -> None:
    aggregate, expected = CASES[name]
    plan = PartialPlan([("x", aggregate)], RECORDS)
    schema = FIELDS | {EVENT_TIME: pl.Datetime("us", "UTC")}
    shuffled = pl.DataFrame(data.draw(st.permutations(items)), schema=schema)
    found = split_and_merged(plan, shuffled, data).sort("key")
    wanted = pl.DataFrame(items, schema=schema).group_by("key").agg(expected.alias("x")).sort("key")
    assert found.schema["x"] == plan.types["x"]
    # Var of nearly equal values has digits of its mean's square only.
    assert_frame_equal(
        found, wanted, check_exact=False, rel_tol=1e-9, abs_tol=1e-3 if name in ("std", "var") else 1e-6
    )


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("at", pl.Datetime("us", "UTC")), ("day", pl.Datetime("us")), ("span", pl.Duration("us"))],
)
@given(items=st.lists(rows, min_size=1, max_size=15), data=st.data())
def test_the_mean_of_times_is_a_time(
    name: str, dtype: pl.DataType, items: list[dict[str, Any]], data: st.DataObject
) -> None:
    plan = PartialPlan([("x", sf.mean(name))], RECORDS)
    frame = pl.DataFrame(items, schema=FIELDS | {EVENT_TIME: pl.Datetime("us", "UTC")})
    found = split_and_merged(plan, frame, data).sort("key")
    numbers = (col(name).cast(dtype) if name == "day" else col(name)).to_physical()
    wanted = frame.group_by("key").agg(numbers.sum().alias("sum"), numbers.count().alias("n")).sort("key")
    assert found.schema["x"] == dtype
    assert found["x"].to_physical().to_list() == [total // n if n else None for _, total, n in wanted.rows()]


@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400), q=st.floats(0, 1), data=st.data())
def test_an_approximate_quantile_has_about_the_right_rank(
    values: list[float], q: float, data: st.DataObject
) -> None:
    plan = PartialPlan([("x", sf.approx_quantile("real", q))], RECORDS)
    blank = dict.fromkeys(FIELDS) | {"key": "a", EVENT_TIME: START}
    schema = FIELDS | {EVENT_TIME: pl.Datetime("us", "UTC")}
    frame = pl.DataFrame([blank | {"real": value} for value in [*values, float("nan")]], schema=schema)
    (found,) = split_and_merged(plan, frame, data)["x"]
    ordered = sorted(values)
    below = sum(value < found for value in ordered)
    upto = sum(value <= found for value in ordered)
    slack = 2 + 0.02 * len(values)
    assert below - slack <= q * len(values) <= upto + slack


def test_an_approximate_count_of_many_is_within_its_error_and_blind_to_the_split() -> None:
    plan = PartialPlan([("x", sf.approx_n_unique("whole"))], RECORDS)
    frame = pl.DataFrame({"key": "a", "whole": [i % 20_000 for i in range(30_000)]})
    frame = frame.with_columns(pl.lit(START).alias(EVENT_TIME))
    pieces = [plan.partial(frame.slice(start, 7_000), ["key"]) for start in range(0, 30_000, 7_000)]
    estimates = {
        plan.results(plan.merge(concatenated(order), ["key"]), ["key"])["x"].item()
        for order in (pieces, pieces[::-1], [plan.partial(frame, ["key"])])
    }
    assert len(estimates) == 1
    assert abs(estimates.pop() - 20_000) < 20_000 * 0.06


@pytest.mark.parametrize("far", [0.0, 1e9, -1e12])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_variance_does_not_lose_its_digits_far_from_zero(far: float, size: int) -> None:
    """Merged pairwise and at once, of batches as small as one record."""
    plan = PartialPlan([("x", sf.var("real"))], RECORDS)
    values = [4.0, 7.0, 13.0, 16.0] * 50
    frame = pl.DataFrame({"key": "a", "real": [far + value for value in values]})
    frame = frame.with_columns(pl.lit(START).alias(EVENT_TIME))
    pieces = [plan.partial(frame.slice(start, size), ["key"]) for start in range(0, frame.height, size)]
    running = pieces[0]
    for piece in pieces[1:]:
        running = plan.merge(concatenated([running, piece]), ["key"])
    for merged in (plan.merge(concatenated(pieces), ["key"]), running):
        found = plan.results(merged, ["key"])["x"].item()
        assert found == pytest.approx(pl.Series(values).var(), rel=1e-12)


Make = Callable[[], Aggregate]


@pytest.mark.parametrize(
    "make",
    [
        lambda: sf.sum("real"),
        lambda: sf.mean("at"),
        lambda: sf.top_k("whole", 2),
        lambda: sf.std("real"),
        lambda: sf.quantile("real", 0.5),
        lambda: sf.approx_quantile("real", 0.5),
    ],
)
def test_nothing_but_nulls(make: Make) -> None:
    plan = PartialPlan([("x", make())], RECORDS)
    blank = dict.fromkeys(FIELDS) | {"key": "a", EVENT_TIME: START}
    frame = pl.DataFrame([blank, blank], schema=FIELDS | {EVENT_TIME: pl.Datetime("us", "UTC")})
    part = plan.partial(frame, ["key"])
    merged = plan.merge(concatenated([part, part]), ["key"])
    twice = plan.merge(concatenated([merged, part]), ["key"])
    value = plan.results(twice, ["key"])["x"].to_list()[0]
    assert value == {"sum": 0.0, "top_k": []}.get(make().label)
