"""Which expressions a stream takes: those whose value for a record depends on that record alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest

import streamflow as sf
from streamflow import col, lit
from streamflow.operators.stateless.per_row import check_per_row

V, S, L, T = col("v"), col("s"), col("l"), col("t")

COLUMNS = {
    "v": sf.Int64,
    "w": sf.Float64,
    "k": sf.String,
    "s": sf.String,
    "l": sf.List(sf.Int64),
    "t": sf.Datetime,
    "r": sf.Struct({"a": sf.Int64, "b": sf.String}),
    "b": sf.Boolean,
    "n": sf.Int64,
}

TAKEN: list[pl.Expr] = [
    V + 1,
    -V,
    V * col("w") / 2,
    V % 3 // 2,
    V.abs().sqrt(),
    V.cast(sf.String),
    V.clip(0, 5),
    V.round(1),
    V.hash(),
    V.is_null(),
    V.fill_null(0),
    V.is_in([1, 2]),
    V.is_in(L),
    V.is_between(1, 5),
    V.replace({1: 2}),
    V.replace_strict({1: "a"}, default="b"),
    pl.when(V > 1).then(V).otherwise(0),
    pl.coalesce("v", "n"),
    pl.sum_horizontal("v", "n"),
    pl.max_horizontal("v", "n"),
    pl.all_horizontal("b", "b"),
    pl.concat_str("k", "s"),
    pl.concat_list("v", "n"),
    pl.format("{}-{}", "k", "v"),
    pl.struct("k", "v"),
    pl.datetime(2020, "n", 1),
    pl.duration(hours="v"),
    pl.int_ranges(0, V),
    pl.all().is_null().name.suffix("_is_null"),
    lit(1),
    lit("x") + S,
    lit([1, 2]),
    S.str.to_uppercase(),
    S.str.split(","),
    S.str.contains("a"),
    S.str.to_datetime("%Y-%m-%d %H:%M", time_zone="UTC"),
    S.str.to_time("%H:%M"),
    S.str.strptime(pl.Date, "%Y"),
    S.str.json_decode(pl.Struct({"a": pl.Int64})),
    S.str.len_chars().alias("length"),
    T.dt.year(),
    T.dt.truncate("1h"),
    T.dt.convert_time_zone("Europe/Berlin"),
    T.dt.offset_by("1d"),
    L.list.sum(),
    L.list.sort(),
    L.list.unique(),
    L.list.get(0, null_on_oob=True),
    L.list.contains(1),
    L.list.eval(pl.element().cum_sum()),
    L.list.eval(pl.element() / pl.element().sum()),
    L.list.eval(pl.element().rank()),
    L.list.agg(pl.element().max()),
    L.list.filter(pl.element() > 1),
    L.list.to_struct(fields=["a", "b"]),
    col("r").struct.field("a"),
    col("r").struct.with_fields(pl.field("a") + 1),
    col("r").struct.rename_fields(["x", "y"]),
]

REFUSED: list[pl.Expr] = [
    V.lower_bound(),
    V.upper_bound() + 1,
    S.str.to_datetime(strict=False),
    S.str.to_date().dt.year(),
    S.str.strptime(pl.Datetime("ms")),
    S.str.to_time(),
    V.sum(),
    V - V.mean(),
    V.max() == V,
    V.min(),
    V.std(),
    V.median(),
    V.quantile(0.5),
    V.count(),
    V.n_unique(),
    V.product(),
    V.null_count(),
    V.first(),
    V.last(),
    V.item(),
    V.implode(),
    V.any(),
    V.is_sorted(),
    V.arg_max(),
    V.entropy(),
    pl.len(),
    V / pl.len(),
    V.sum().over("k"),
    V.shift(),
    V.diff(),
    V.pct_change(),
    V.cum_sum(),
    V.cum_count(),
    V.rank(),
    V.reverse(),
    V.sort(),
    V.sort_by("k"),
    V.arg_sort(),
    V.unique(),
    V.value_counts(),
    V.mode(),
    V.is_unique(),
    V.is_duplicated(),
    V.is_first_distinct(),
    V.rle_id(),
    V.head(2),
    V.tail(1),
    V.slice(1),
    V.top_k(2),
    V.gather([0]),
    V.get(0),
    V.gather_every(2),
    V.filter(V > 1),
    V.drop_nulls(),
    V.sample(1),
    V.shuffle(),
    V.rolling_mean(3),
    V.rolling_sum_by("t", window_size="1h"),
    V.ewm_mean(alpha=0.5),
    V.interpolate(),
    V.forward_fill(),
    V.backward_fill(),
    V.fill_null(strategy="forward"),
    V.search_sorted(1),
    V.peak_max(),
    V.cumulative_eval(pl.element().sum()),
    V.is_in(col("n")),
    V.replace(col("n"), col("v")),
    V.replace_strict(col("n"), col("v"), default=0),
    V.replace(1, col("n")),
    V.cast(pl.String).cast(pl.Categorical).to_physical(),
    V.is_in(col("n").implode()),
    V.map_batches(lambda column: column),
    V.map_elements(lambda value: value, return_dtype=pl.Int64),
    L.list.explode(),
    S.str.join(","),
    pl.cum_sum("v"),
    pl.corr("v", "n"),
    pl.int_range(pl.len()),
    pl.lit(pl.Series([1, 2])),
    pl.struct(V.sum(), "k"),
    pl.when(V.max() > 1).then(V),
    pl.coalesce("v", V.max()),
    pl.all().sum(),
    col("r").struct.with_fields(pl.field("a").sum()),
    L.list.sum().shift(),
    pl.sql_expr("SUM(v)"),
]

Use = Callable[[sf.Stream, pl.Expr], object]
USES: dict[str, Use] = {
    "select": lambda s, e: s.select(x=e),
    "with_columns": lambda s, e: s.with_columns(x=e),
    "filter": lambda s, e: s.filter(e.is_not_null()),
    "split": lambda s, e: s.split(some=e.is_not_null()),
    "key": lambda s, e: s.key_by(e.alias("x")),
    "aggregate": lambda s, e: s.key_by("k").aggregate(x=sf.count(e)),
    "window": lambda s, e: s.key_by("k").window(sf.tumbling("1h")).aggregate(x=sf.collect_list(e)),
    "top_k": lambda s, e: s.key_by("k").aggregate(x=sf.top_k("v", 2, by=e)),
}


def records(job: sf.Job) -> sf.Stream:
    return job.read(sf.MemorySource([], schema=COLUMNS), event_time="t")


@pytest.mark.parametrize("expression", TAKEN, ids=str)
def test_these_are_taken(expression: pl.Expr) -> None:
    check_per_row(expression, columns=sf.Schema(COLUMNS))
    records(sf.Job()).with_columns(expression)


@pytest.mark.parametrize("expression", REFUSED, ids=str)
def test_these_are_refused(expression: pl.Expr) -> None:
    with pytest.raises(sf.JobDefinitionError, match=r"depends on other records|Python function"):
        check_per_row(expression, columns=sf.Schema(COLUMNS))


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_they_are_refused_wherever_a_job_takes_an_expression(use: Use) -> None:
    for expression in (V - V.mean(), V.shift(), V.cum_sum(), V.forward_fill()):
        with pytest.raises(sf.JobDefinitionError, match="depends on other records"):
            use(records(sf.Job()), expression)
    use(records(sf.Job()), V + 1)


def test_event_time_and_made_columns_are_expressions_too() -> None:
    with pytest.raises(sf.JobDefinitionError, match="depends on other records"):
        sf.Job().read(sf.MemorySource([], schema=COLUMNS), event_time=T.max())
    with pytest.raises(sf.JobDefinitionError, match="depends on other records"):
        sf.DataGen({"n": col("index").cum_sum()})


def test_a_refusal_says_where_and_what_to_use() -> None:
    with pytest.raises(sf.JobDefinitionError) as caught:
        records(sf.Job()).with_columns(m=V.sum())
    text = str(caught.value)
    assert "operator with-columns-1" in text
    assert "test_per_row.py" in text
    assert "sum in" in text
    assert "aggregate(…)" in text


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
@pytest.mark.parametrize("timed", [False, True])
def test_constants_stand_in_every_record(timed: bool, batch_rows: int) -> None:
    def result(build: Callable[[sf.Stream], sf.Stream]) -> list[Any]:
        job = sf.Job("constants")
        rows = [{"k": "a", "t": at} for at in range(5)]
        event_time = sf.epoch("t") if timed else None
        out = build(job.read(sf.MemorySource(rows, batch_rows=batch_rows), event_time=event_time)).collect()
        job.run(mode="batch")
        return out.rows()

    assert result(lambda s: s.select(one=1)) == [{"one": 1}] * 5
    assert result(lambda s: s.select(lit("x").alias("x"), none=lit(None))) == [{"x": "x", "none": None}] * 5
    assert len(result(lambda s: s.filter(lit(True)))) == 5
    assert len(result(lambda s: s.split(all=lit(True))["all"])) == 5
    totals = result(lambda s: s.key_by(lit("all").alias("all")).aggregate(n=sf.sum(lit(2)), m=sf.max(lit(3))))
    assert totals == [{"change": "insert", "all": "all", "n": 10, "m": 3}]


def test_made_constants_stand_in_every_record() -> None:
    job = sf.Job("made")
    out = job.read(sf.DataGen({"x": lit("a")}, rows=3)).collect()
    job.run()
    assert out.rows() == [{"x": "a"}] * 3


def test_a_random_value_needs_a_seed() -> None:
    stream = records(sf.Job("random"))
    for chosen in (L.list.sample(1), L.list.eval(pl.element().shuffle())):
        with pytest.raises(sf.JobDefinitionError, match=r"another value each time; .*give a seed="):
            stream.select(x=chosen)
    stream.select(x=L.list.sample(1, seed=1), y=L.list.eval(pl.element().shuffle(seed=1)))


def test_a_selector_is_the_columns_that_it_chooses() -> None:
    job = sf.Job("selectors")
    rows = sf.MemorySource([{"a": 1, "b": 2, "t": "2024-01-01T00:00:00Z"}], schema={**AB, "t": sf.Datetime})
    stream = job.read(rows, event_time="t")
    total = stream.key_by(col("a", "b")).aggregate(last=sf.max(cs.temporal()), n=sf.sum(pl.nth(1))).collect()
    job.run()
    (row,) = total.rows()
    assert (row["a"], row["b"], row["last"].year, row["n"]) == (1, 2, 2024, 2)


AB = {"a": sf.Int64, "b": sf.Int64}


@pytest.mark.parametrize(
    ("use", "wrong"),
    [
        (lambda s: s.key_by(cs.date()), "is no column, or several expressions"),
        (lambda s: s.key_by(cs.integer() + 1), "is no column, or several expressions"),
        (lambda s: s.key_by("a").sum(cs.integer()), "is not one column; aggregate each"),
        (lambda s: s.select(x=sf.epoch("a")), "is no column and no expression"),
        (lambda s: sf.epoch(col("a")), "takes the name of a column"),
    ],
)
def test_what_is_not_one_value_for_each_record_is_refused(
    use: Callable[[sf.Stream], Any], wrong: str
) -> None:
    with pytest.raises(sf.JobDefinitionError, match=wrong):
        use(sf.Job("wrong").read(sf.MemorySource(pl.DataFrame(schema=AB))))
