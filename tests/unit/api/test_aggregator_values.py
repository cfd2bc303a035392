"""The value that an own aggregate's `add` gets is what its parameter is annotated with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

import polars as pl
import pytest

import streamflow as sf

SCHEMA = {"k": str, "price": float, "size": int, "ts": int}
ROWS = [
    {"k": "a", "price": 1.0, "size": 2, "ts": 1},
    {"k": "a", "price": 4.0, "size": 1, "ts": 2},
]


@dataclass
class Trade:
    price: float
    size: int = 1


class Sold(NamedTuple):
    price: float
    size: int


class Fields(TypedDict):
    price: float
    size: int


def mean_price(kind: Any) -> type[sf.Aggregator]:
    class Mean(sf.Aggregator):
        def create(self) -> list[float]:
            return [0.0, 0.0]

        def add(self, accumulator: list[float], value: Any) -> list[float]:
            assert type(value) is (dict if kind is Fields else kind)
            fields: dict[str, Any] = (
                value if kind is Fields else getattr(value, "__dict__", None) or value._asdict()
            )
            return [accumulator[0] + fields["price"] * fields["size"], accumulator[1] + fields["size"]]

        def merge(self, left: list[float], right: list[float]) -> list[float]:
            return [left[0] + right[0], left[1] + right[1]]

        def result(self, accumulator: list[float]) -> float:
            return accumulator[0] / accumulator[1]

    Mean.add.__annotations__["value"] = kind
    return Mean


def fields_of(row: Any) -> dict[str, Any]:
    return {"price": row["price"], "size": row["size"]}


def trade_of(row: Any) -> Trade:
    return Trade(row["price"], row["size"])


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@pytest.mark.parametrize("kind", [Trade, Sold, Fields])
@pytest.mark.parametrize("input", [pl.struct("price", "size"), fields_of, trade_of])
@pytest.mark.parametrize("objects", [False, True])
def test_a_struct_becomes_the_class(
    kind: Any,
    input: pl.Expr | Callable[[Any], Any],
    objects: bool,
    mode: Literal["streaming", "micro-batch", "batch"],
) -> None:
    if objects and isinstance(input, pl.Expr):
        pytest.skip("objects have no expressions")
    job = sf.Job("mean")
    source = sf.MemorySource(ROWS, schema=sf.OBJECTS if objects else SCHEMA)
    read = job.read(source, event_time=sf.epoch("ts", unit="s"))
    out = read.key_by("k").window(sf.tumbling("1h")).aggregate(mean=mean_price(kind)(input)).collect()
    job.run(mode=mode)
    assert [row["mean"] for row in out.rows()] == [2.0]


def test_nulls_stay_none_and_lists_hold_the_class() -> None:
    seen: list[Any] = []

    class Seen(sf.Aggregator):
        def create(self) -> int:
            return 0

        def add(self, accumulator: int, value: list[Trade] | None) -> int:
            seen.append(value)
            return accumulator + 1

        def merge(self, left: int, right: int) -> int:
            return left + right

        def result(self, accumulator: int) -> int:
            return accumulator

    Seen.add.__annotations__["value"] = list[Trade] | None
    job = sf.Job("seen")
    rows = [{"k": "a", "trades": [{"price": 1.0, "size": 2}]}, {"k": "a", "trades": None}]
    trades = pl.List(pl.Struct({"price": pl.Float64, "size": pl.Int64}))
    job.read(sf.MemorySource(rows, schema={"k": pl.String, "trades": trades})).key_by("k").aggregate(
        n=Seen("trades")
    ).collect()
    job.run(mode="batch")
    assert seen == [[Trade(1.0, 2)], None]


def test_a_class_that_the_columns_cannot_fill_is_refused_when_the_job_is_built() -> None:
    job = sf.Job("mean")
    keyed = job.read(sf.MemorySource(ROWS, schema=SCHEMA)).key_by("k")
    with pytest.raises(
        sf.JobDefinitionError, match=r"a row should become a Trade: no column 'price'; there are: size"
    ):
        keyed.aggregate(mean=mean_price(Trade)(pl.struct("size"))).collect()


def test_what_the_class_refuses_is_the_record_s_error() -> None:
    @dataclass
    class Cheap:
        price: float
        size: int

        def __post_init__(self) -> None:
            if self.price > 3:
                raise ValueError("too dear")

    job = sf.Job("mean")
    keyed = job.read(sf.MemorySource(ROWS, schema=SCHEMA)).key_by("k")
    keyed.aggregate(mean=mean_price(Cheap)(pl.struct("price", "size"))).collect()
    with pytest.raises(sf.RecordError, match=r"Mean\.add raised ValueError: too dear"):
        job.run(mode="batch")


class Largest(sf.Aggregator):
    """Begins with nothing."""

    def create(self) -> None:
        return None

    def add(self, accumulator: int | None, value: int) -> int:
        return value if accumulator is None else max(accumulator, value)

    def merge(self, left: int, right: int) -> int:
        return max(left, right)

    def result(self, accumulator: int) -> int:
        return accumulator


def test_an_accumulator_may_begin_with_none() -> None:
    job = sf.Job("largest")
    out = job.read(sf.MemorySource(ROWS)).key_by("k").aggregate(size=Largest("size")).collect()
    job.run(mode="batch")
    assert [row["size"] for row in out.rows()] == [2]


@pytest.mark.parametrize("field", ["sise", "more"])
def test_a_field_that_a_reduced_record_has_not_is_an_error(field: str) -> None:
    job = sf.Job("reduce")
    keyed = job.read(sf.MemorySource(ROWS)).key_by("k")
    keyed.reduce(lambda left, right: {**left, field: left["size"] + right["size"]}).collect()
    with pytest.raises(sf.RecordError, match=f"no field '{field}'"):
        job.run(mode="batch")


def test_a_time_that_python_cannot_hold_is_told() -> None:
    job = sf.Job("far")
    read = job.read(sf.MemorySource([{"k": "a", "at": 400_000_000_000_000_000}]))
    keyed = read.with_columns(at=pl.col("at").cast(pl.Datetime("us"))).key_by("k")
    keyed.aggregate(largest=Largest("at")).collect()
    with pytest.raises(sf.RecordError, match=r"aggregate-1: column 'at' holds .*14645"):
        job.run()


class Unsure(sf.Aggregator):
    """Gives numbers, and text where they are large."""

    def create(self) -> int:
        return 0

    def add(self, accumulator: int, value: int) -> int:
        return accumulator + value

    def merge(self, left: int, right: int) -> int:
        return left + right

    def result(self, accumulator: int) -> Any:
        return accumulator if accumulator < 10 else "much"


@pytest.mark.parametrize("mode", ["streaming", "micro-batch", "batch"])
@pytest.mark.parametrize("windows", [True, False])
def test_results_of_other_types_than_before_are_an_error_in_every_mode(windows: bool, mode: Any) -> None:
    job = sf.Job("unsure")
    rows = [{"k": key, "v": v, "t": 10 * v} for key, v in (("a", 1), ("b", 20), ("a", 2))]
    keyed = job.read(sf.MemorySource(rows, batch_rows=1), event_time=sf.epoch("t", unit="s")).key_by("k")
    out = (keyed.window(sf.tumbling("5s")) if windows else keyed).aggregate(found=Unsure("v"))
    out.map(lambda row: row["found"]).collect()
    with pytest.raises(sf.RecordError, match=r"results of Unsure .*, and was (an integer|text) before"):
        job.run(mode=mode, batch_rows=1)
