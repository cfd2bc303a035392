"""Values whose type nobody declared: one outcome, however they come in batches, in every mode and parallelism."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

import streamflow as sf

Use = Callable[[sf.Stream], sf.Stream]


def value(row: dict[str, Any]) -> Any:
    return row["v"]


USES: dict[str, Use] = {
    "keys": lambda s: s.key_by("v", null_keys="group").aggregate(n=sf.count()),
    "keys by a function": lambda s: s.key_by(value, null_keys="group").aggregate(n=sf.count()),
    "largest": lambda s: s.key_by("k").aggregate(m=sf.max("v")),
    "windows": lambda s: (
        s.key_by("v", null_keys="group").window(sf.sliding("4s", every="2s")).aggregate(n=sf.count())
    ),
    "sessions": lambda s: (
        s.key_by("v", null_keys="group").window(sf.session(gap="2s")).aggregate(n=sf.count())
    ),
    "lists": lambda s: s.key_by("k").window(sf.tumbling("1h")).aggregate(all=sf.collect_list("v")),
}
FITTING: dict[str, list[Any]] = {
    "numbers": [2, 1.5, 2, 3.0, -1],
    "numbers, later": [1, 2, 3, 0.5, 1],
    "nulls first": [None, None, 1, None],
    "nulls only": [None, None, None],
    "texts": ["a", None, "b", "a"],
    "lists": [[1], [], [1.5], [1]],
    "structs": [{"a": 1}, {"a": None}, {"a": 1.5}],
    "large": [2**60, 1, 2**60 + 1],
}
MIXED: dict[str, list[Any]] = {
    "0 and '0'": [0, "0", 0],
    "9 and '10'": [9, "10", "11"],
    "truth values": [True, 1, 0],
    "large and float": [2**60, 1, 0.5],
    "dates and text": [dt.date(2020, 1, 1), "2020-01-01"],
    "lists": [[1], ["a"]],
    "structs": [{"a": 1}, {"b": 1}],
    "late": [1, 2, 3, 4, 5, "6"],
}
WAYS: list[tuple[Any, int, int]] = [
    ("batch", 100, 1),
    ("streaming", 1, 1),
    ("streaming", 2, 3),
    ("micro-batch", 1, 2),
]


def pairs(cases: dict[str, list[Any]]) -> list[Any]:
    """Each case with two uses, so that each use meets several."""
    names = list(USES)
    return [
        pytest.param(
            values, names[(number + step) % len(names)], id=f"{case}-{names[(number + step) % len(names)]}"
        )
        for number, (case, values) in enumerate(cases.items())
        for step in (0, 3)
        # No list or struct is the largest, which is refused.
        if not (case in ("lists", "structs") and names[(number + step) % len(names)] == "largest")
    ]


def run(values: list[Any], use: str, mode: Any, batch_rows: int, parallelism: int) -> list[Any]:
    rows = [{"k": "a", "v": v, "at": at * 1_000} for at, v in enumerate(values)]
    job = sf.Job("untyped")
    source = sf.MemorySource(rows, schema=sf.OBJECTS, batch_rows=batch_rows)
    out = USES[use](job.read(source, event_time=sf.epoch("at"))).collect()
    job.run(mode=mode, parallelism=parallelism, state_backend="memory")
    assert out.frame().height == len(out)
    last: dict[str, Any] = {}
    for row in out.rows():
        if row.pop("change", "") != "update_before":
            last[repr((plain(row.get("v", row.get("value"))), row.get("window_start")))] = row
    return sorted(last.values(), key=lambda row: repr([*map(plain, row.values())]))


def plain(value: Any) -> Any:
    """Numbers as floats, since 2 and 2.0 are equal and look different."""
    if isinstance(value, list):
        return [*map(plain, value)]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return float(value) if isinstance(value, int) and abs(value) < 2**53 else value


@pytest.mark.parametrize(("values", "use"), pairs(FITTING))
def test_numbers_and_nulls_mix_in_every_way_alike(values: list[Any], use: str) -> None:
    first, *others = [run(values, use, *way) for way in WAYS]
    assert first
    for other in others:
        assert [*map(plain, other)] == [*map(plain, first)]


@pytest.mark.parametrize(("values", "use"), pairs(MIXED))
def test_anything_else_is_the_record_s_error_in_every_way(values: list[Any], use: str) -> None:
    for way in WAYS:
        with pytest.raises(sf.RecordError, match=r"before; return one type|in some records"):
            run(values, use, *way)


AGGREGATES: dict[str, Callable[[Callable[[dict[str, Any]], Any]], Any]] = {
    "sum": sf.sum,
    "mean": sf.mean,
    "std": sf.std,
    "quantile": lambda function: sf.quantile(function, 0.5),
    "any": sf.any,
    "min": sf.min,
    "approx_quantile": lambda function: sf.approx_quantile(function, 0.5),
}


@pytest.mark.parametrize("unfit", ["12", [1], {"a": 1}, dt.date(2024, 1, 1)], ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "std"])
def test_an_aggregate_does_not_take_what_it_cannot_be_made_of(name: str, unfit: Any) -> None:
    job = sf.Job("unfit")
    job.read(sf.MemorySource([{"k": 1, "v": unfit}])).key_by("k").aggregate(
        made=AGGREGATES[name](value)
    ).collect()
    with pytest.raises(sf.RecordError, match=f"{name} ") as caught:
        job.run()
    assert "key-by-1" in str(caught.value)
    assert "test_untyped_values.py" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "unfit"),
    [
        ("quantile", "1"), ("quantile", [1]), ("any", "yes"), ("any", 1),
        ("quantile", []), ("mean", []), ("min", [None]), ("sum", {"a": None}), ("approx_quantile", []),
    ],
)  # fmt: skip
def test_nor_does_one_give_null_or_a_truth_for_it(name: str, unfit: Any) -> None:
    job = sf.Job("unfit")
    job.read(sf.MemorySource([{"k": 1, "v": unfit}])).key_by("k").aggregate(
        made=AGGREGATES[name](value)
    ).collect()
    with pytest.raises(sf.RecordError, match=f"which {name} does not work on"):
        job.run()


@pytest.mark.parametrize(("mode", "batch_rows", "parallelism"), WAYS)
def test_a_value_that_no_aggregate_takes_does_not_decide_what_the_others_are(
    mode: Any, batch_rows: int, parallelism: int
) -> None:
    rows = [{"k": "a", "v": v} for v in ("x", None, 2, "3", 0.5)]
    job = sf.Job("first")
    stream = job.read(sf.MemorySource(rows, schema=sf.OBJECTS, batch_rows=batch_rows))
    out = stream.key_by(lambda row: row["k"]).aggregate(made=sf.sum("v")).on_error("skip").collect()
    result = job.run(mode=mode, parallelism=parallelism)
    assert out.rows()[-1]["made"] == 2.5
    assert result.errors == 2


@pytest.mark.parametrize(("mode", "batch_rows", "parallelism"), WAYS)
@pytest.mark.parametrize("before", [2**60, 7, "x"])
def test_nor_does_one_of_a_record_whose_other_value_cannot_be_made(
    before: Any, mode: Any, batch_rows: int, parallelism: int
) -> None:
    def found(row: dict[str, Any]) -> Any:
        return before if row["v"] is None else row["v"] / 2

    job = sf.Job("first")
    rows = sf.MemorySource([{"k": "a", "v": v} for v in (None, 1, None, 2)], batch_rows=batch_rows)
    keyed = job.read(rows).key_by("k")
    out = (
        keyed.aggregate(half=sf.max(found), more=sf.sum(lambda row: row["v"] + 1)).on_error("skip").collect()
    )
    result = job.run(mode=mode, parallelism=parallelism)
    assert (out.rows()[-1]["half"], out.rows()[-1]["more"]) == (1.0, 5)
    assert result.errors == 2
