"""Conditions of patterns: expressions over one row as Polars gives them, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow import col
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.patterns import scalar as scalars
from streamflow.operators.patterns.match import MatchSpec
from streamflow.operators.patterns.references import Reference, Summary
from streamflow.operators.patterns.scalar import conjuncts, scalar, values_of

TYPES: dict[str, pl.DataType] = {
    "i": pl.Int64(),
    "j": pl.Int64(),
    "f": pl.Float64(),
    "g": pl.Float64(),
    "s": pl.String(),
    "t": pl.String(),
    "b": pl.Boolean(),
}
INTS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1]))
FLOATS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, -2.0, math.nan, math.inf, -math.inf]))
ROWS = st.fixed_dictionaries(
    {
        "i": INTS, "j": INTS, "f": FLOATS, "g": FLOATS,
        "s": st.sampled_from([None, "", "a", "b"]), "t": st.sampled_from([None, "", "a", "b"]),
        "b": st.sampled_from([None, True, False]),
    }
)  # fmt: skip


def numbers() -> st.SearchStrategy[pl.Expr]:
    leaf = st.sampled_from([col("i"), col("j"), col("f"), col("g"), pl.lit(2), pl.lit(1.5), pl.lit(-1)])
    return st.recursive(
        leaf,
        lambda inner: st.builds(
            lambda op, one, other: {"+": one + other, "-": one - other, "*": one * other, "/": one / other}[
                op
            ],
            st.sampled_from("+-*/"),
            inner,
            inner,
        ),
        max_leaves=4,
    )


def comparisons(values: st.SearchStrategy[pl.Expr]) -> st.SearchStrategy[pl.Expr]:
    return st.builds(
        lambda op, one, other: {
            ">": one > other, ">=": one >= other, "<": one < other, "<=": one <= other,
            "==": one == other, "!=": one != other,
        }[op],
        st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
        values,
        values,
    )  # fmt: skip


def conditions() -> st.SearchStrategy[pl.Expr]:
    texts = st.sampled_from([col("s"), col("t"), pl.lit("a")])
    leaf = st.one_of(
        comparisons(numbers()),
        comparisons(texts),
        st.just(col("b")),
        st.sampled_from([col("i").is_null(), col("s").is_not_null()]),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda one, other: one & other, inner, inner),
            st.builds(lambda one, other: one | other, inner, inner),
            st.builds(lambda one: ~one, inner),
        ),
        max_leaves=5,
    )


@given(expression=conditions(), row=ROWS)
def test_a_condition_over_one_row_is_what_polars_gives(expression: pl.Expr, row: dict[str, Any]) -> None:
    types = {name: TYPES[name] for name in expression.meta.root_names()}
    evaluated = scalar(expression, types)
    frame = pl.DataFrame({name: [row[name]] for name in TYPES}, schema=TYPES)
    assert evaluated(row) is frame.select(expression.alias("out"))["out"][0]


COLUMNS = [
    pl.Series([], dtype=pl.Int64),
    pl.Series([None, None], dtype=pl.Float64),
    pl.Series([2, None, -3], dtype=pl.Int64),
    pl.Series([2**63 - 1, 2**63 - 1]),
    pl.Series([2**64 - 1, 2**64 - 1, 0], dtype=pl.UInt64),
    pl.Series([math.nan, 1.5, None, -2.0, math.nan]),
    pl.Series([1.5, math.nan]),
    pl.Series([math.nan, math.nan]),
    pl.Series(["middle", "low", "high", None], dtype=pl.Enum(["low", "middle", "high"])),
    pl.Series([1_001, 1_000, 1_002]).cast(pl.Datetime("ns")),
]


@pytest.mark.parametrize("summary", ["first", "last", "sum", "mean", "min", "max"])
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.to_list()))
def test_a_summary_of_earlier_events_is_what_polars_gives(column: pl.Series, summary: Summary) -> None:
    if summary in ("sum", "mean") and not column.dtype.is_numeric():
        return
    reference = Reference("a", summary, "v")
    wide = column.cast(pl.Int128) if column.dtype.is_integer() else column
    expected = wide.to_frame("v").select(getattr(col("v"), summary)()).to_series()
    value = reference.of(values_of(column))
    # No plain expression, so that Polars sees the value.
    same = scalar(pl.struct(reference.expression).struct[0], {reference.name: reference.type(column.dtype)})
    found = same({reference.name: value})
    if summary == "mean":
        assert found == pytest.approx(expected[0], nan_ok=True)
    else:
        assert pl.Series([found]).equals(pl.Series([expected[0]]), null_equal=True)


def test_nanoseconds_tell_events_apart() -> None:
    column = pl.Series([1_001, 1_000]).cast(pl.Datetime("ns"))
    later = scalar(col("v") > col("w"), {"v": column.dtype, "w": column.dtype})
    assert later(dict(zip("vw", values_of(column), strict=True))) is True


def test_plain_conditions_are_evaluated_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any) -> object:
        raise AssertionError("a query")

    monkeypatch.setattr(scalars, "_query", refused)
    row = {"i": 3, "j": 1, "f": 2.5, "s": "a", "b": True}
    for condition in (
        col("i") > 2 * col("j"),
        (col("f") / 2 < col("i")) & ~(col("s") == "b") | col("b"),
        col("i").is_null() | (col("j") - 1 >= 0),
    ):
        types = {name: TYPES[name] for name in condition.meta.root_names()}
        assert scalar(condition, types)(row) is True


def test_conjuncts() -> None:
    parts = conjuncts((col("a") > 1) & ((col("b") | col("c")) & ~col("d")))
    assert [part.meta.root_names() for part in parts] == [["a"], ["b", "c"], ["d"]]


def test_what_is_nested_deep_is_a_query() -> None:
    deep = sum((col("i") for _ in range(250)), pl.lit(0)) > 249
    assert len(conjuncts(deep & col("b"))) == 1
    assert scalar(deep, {"i": TYPES["i"]})({"i": 1}) is True


RECORDS = StreamType(
    Schema({"k": pl.String, "v": pl.Int64, "s": pl.String, "l": pl.List(pl.Int64)}), timed=True
)
A = sf.pattern("a", col("v") > 1)


@pytest.mark.parametrize(
    ("sought", "message"),
    [
        (sf.pattern("a", col("x") > 1), "x"),
        (sf.pattern("a", col("v")), "yes or no"),
        (sf.pattern("a", pl.all_horizontal(pl.all())), "does not name"),
        (sf.pattern("a", col("v") > col("v").mean()), "other records"),
        (A.then("b", col("v") > sf.step("c").v), "no step 'c'|'c'"),
        (A.then("b", col("v") > sf.step("b").v), "no event yet"),
        (sf.pattern("a", col("v") > sf.step("b").v).then("b"), "no event yet"),
        (A.then("b", col("v") > sf.step("a").x), "x"),
        (A.then("b", col("v") > sf.step("a").sum("s")), "sum"),
        (A.then("b", col("s") > sf.step("a").v), "string"),
        (A.then("b", col("l") == sf.step("a").min("l")), "the min of 'l' .* neither larger nor smaller"),
        (A.not_then("b", col("v") > 1), "for how long"),
        (sf.pattern("a", col("v") > 1).optional(), "all steps"),
        (A.then("k"), "a key"),
        (sf.pattern(A.then("b", col("v") > sf.step("c").v).then("c")), "no event yet"),
        (sf.pattern(A).times(2).then("b", col("v") > sf.step("b").v), "no event yet"),
        (sf.pattern(A).optional(), "all steps"),
        (sf.pattern(sf.pattern(A).times(5_000)).times(3), "15,000 steps"),
        (A.then(sf.pattern("b").then("k")).times(2), "a key"),
        (A.then("match_start"), "every match"),
    ],
)
def test_a_condition_that_cannot_be_judged_is_refused(sought: sf.Pattern, message: str) -> None:
    with pytest.raises(sf.JobDefinitionError, match=message):
        MatchSpec(("k",), sought, ("k", "v", "s", "l")).output_type([RECORDS])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sf.pattern(""), "called ''"),
        (lambda: sf.pattern("a:b"), "called 'a:b'"),
        (lambda: sf.pattern("a", 1), "condition of 'a'"),
        (lambda: A.then("a"), "two steps"),
        (lambda: A.optional().not_then("b", col("v") > 1), "optional"),
        (lambda: A.not_then("b", col("v") > 1).not_next("c", col("v") > 1), "no event"),
        (lambda: A.not_then("b", col("v") > 1).optional(), "no event"),
        (lambda: A.not_then("b", None), "no condition"),
        (lambda: A.greedy(), "takes one event"),
        (lambda: A.until(col("v") > 1), "takes one event"),
        (lambda: A.one_or_more().until(None), "until has no condition"),
        (lambda: A.one_or_more().until(col("v") > 1).until(col("v") > 2), "two conditions of until"),
        (lambda: A.one_or_more().consecutive().combinations(), "both consecutive and with combinations"),
        (lambda: A.times(0), "got 0"),
        (lambda: A.times(3, 2), "smaller"),
        (lambda: A.times(2).one_or_more(), "already"),
        (lambda: A.within("0s"), "longer than zero"),
        (lambda: A.within("1s").within("2s"), "two times"),
        (lambda: A.then(A), "two steps are called 'a'"),
        (lambda: sf.pattern(A).not_next("a", col("v") > 1), "two steps are called 'a'"),
        (lambda: sf.pattern(A, col("v") > 1), r"the group \(a\) has a condition"),
        (lambda: sf.pattern(A.within("1s")), r"the group \(a\) has a time"),
        (lambda: sf.pattern(A.then("b").not_then("c", col("v") > 1)), "ends with an absence"),
        (lambda: sf.pattern(A.optional().then("b").optional()), "all steps of the group"),
        (lambda: A.not_then(sf.pattern("b"), col("v") > 1), "absence of b"),
        (
            lambda: sf.pattern(A.then("b").optional()).not_then("c", col("v") > 1),
            "ends with an optional step",
        ),
        (lambda: sf.pattern(A).times(2).greedy(), "greedy is about the group"),
        (lambda: sf.pattern(A).until(col("v") > 1), "comes once"),
        (lambda: sf.pattern(A).times(2).times(3), "already"),
        (lambda: sf.step("a").sum(1), "got 1"),
        (lambda: sf.step(False), "step got False"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(make: Any, message: str) -> None:
    with pytest.raises(sf.JobDefinitionError, match=message):
        make()


def test_a_condition_in_a_repeated_group_may_refer_to_all_of_it() -> None:
    rising = sf.pattern("a", col("v") > sf.step("b").v.fill_null(0)).then("b", col("v") > sf.step("a").v)
    spec = MatchSpec(("k",), sf.pattern(rising).times(2), ("k", "v", "s", "l"))
    schema = spec.output_type([RECORDS]).schema
    assert isinstance(schema, Schema)
    assert isinstance(schema["a"], pl.List)
    assert schema["a"] == schema["b"]


def test_references_say_what_they_are() -> None:
    assert str(sf.step("a")["sum"].meta.output_name()).endswith("sum")
    with pytest.raises(AttributeError):
        _ = sf.step("a").__wrapped__
