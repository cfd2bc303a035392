import datetime as dt
from typing import Any

import polars as pl
import pytest

from streamflow.errors import JobDefinitionError, RecordError
from streamflow.windows import aggregates as sf
from streamflow.windows.accumulators import pack, unpack
from streamflow.windows.aggregate import Aggregate


@pytest.mark.parametrize(
    ("aggregate", "dtype", "result"),
    [
        (sf.count(), pl.Unknown(), pl.Int64()),
        (sf.count("x"), pl.String(), pl.Int64()),
        (sf.sum("x"), pl.Float64(), pl.Float64()),
        (sf.sum("x"), pl.Int32(), pl.Int64()),
        (sf.sum("x"), pl.UInt32(), pl.Int64()),
        (sf.sum("x"), pl.UInt64(), pl.UInt64()),
        (sf.sum("x"), pl.Boolean(), pl.Int64()),
        (sf.sum("x"), pl.Duration("us"), pl.Duration("us")),
        (sf.mean("x"), pl.Int64(), pl.Float64()),
        (sf.mean("x"), pl.Datetime("us", "UTC"), pl.Datetime("us", "UTC")),
        (sf.min("x"), pl.String(), pl.String()),
        (sf.max("x"), pl.Date(), pl.Date()),
        (sf.first("x"), pl.List(pl.Int8()), pl.List(pl.Int8())),
        (sf.last("x"), pl.Struct({"a": pl.Int8()}), pl.Struct({"a": pl.Int8()})),
        (sf.std("x"), pl.Int64(), pl.Float64()),
        (sf.var("x"), pl.Float32(), pl.Float64()),
        (sf.sum("x"), pl.Float32(), pl.Float64()),
        (sf.mean("x"), pl.Date(), pl.Datetime("us")),
        (sf.any("x"), pl.Boolean(), pl.Boolean()),
        (sf.all("x"), pl.Boolean(), pl.Boolean()),
        (sf.n_unique("x"), pl.String(), pl.Int64()),
        (sf.approx_n_unique("x"), pl.String(), pl.Int64()),
        (sf.quantile("x", 0.5), pl.Float64(), pl.Float64()),
        (sf.approx_quantile("x", 0.5), pl.Int32(), pl.Float64()),
        (sf.collect_list("x"), pl.String(), pl.List(pl.String())),
        (sf.top_k("x", 2), pl.Int64(), pl.List(pl.Int64())),
        (sf.top_k("x", 2, by="y"), pl.String(), pl.List(pl.String())),
        (sf.reduce(max, "x"), pl.Int64(), pl.Int64()),
        (sf.sum("x"), pl.Unknown(), pl.Unknown()),
        (sf.mean("x"), pl.Unknown(), pl.Float64()),
        (sf.n_unique("x"), pl.Unknown(), pl.Int64()),
    ],
)
def test_result_types(aggregate: Aggregate, dtype: pl.DataType, result: pl.DataType) -> None:
    assert aggregate.output(dtype) == result


@pytest.mark.parametrize(
    ("aggregate", "dtype"),
    [
        (sf.sum("x"), pl.String()),
        (sf.mean("x"), pl.List(pl.Int64())),
        (sf.min("x"), pl.Struct({"a": pl.Int8()})),
        (sf.any("x"), pl.String()),
        (sf.approx_quantile("x", 0.5), pl.String()),
        (sf.std("x"), pl.List(pl.Float64())),
    ],
)
def test_types_that_do_not_fit_are_refused_when_the_job_is_built(
    aggregate: Aggregate, dtype: pl.DataType
) -> None:
    with pytest.raises(JobDefinitionError, match=f"{aggregate.label}"):
        aggregate.output(dtype)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sf.sum(None),
        lambda: sf.mean(3),  # type: ignore[arg-type]
        lambda: sf.quantile("x", 1.5),
        lambda: sf.approx_quantile("x", -0.1),
        lambda: sf.quantile("x", True),
        lambda: sf.top_k("x", 0),
        lambda: sf.std("x", ddof=-1),
        lambda: sf.reduce("no function", "x"),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused(make: Any) -> None:
    with pytest.raises(JobDefinitionError):
        make()


def test_a_python_function_as_input_is_there_to_be_lowered() -> None:
    def delay(row: dict[str, Any]) -> float:
        return float(row["delay"])

    aggregate = sf.sum(delay)
    assert aggregate.function is delay
    with pytest.raises(JobDefinitionError, match=r"sum\(delay\)"):
        _ = aggregate.expression
    lowered = aggregate.with_input("__in0")
    assert lowered.function is None
    assert lowered == sf.sum("__in0")
    assert aggregate.function is delay


def test_aggregates_are_equal_by_their_fields() -> None:
    assert sf.sum(pl.col("a") + 1) == sf.sum(pl.col("a") + 1)
    assert sf.sum(pl.col("a") + 1) != sf.sum(pl.col("a") + 2)
    assert sf.quantile("a", 0.5) != sf.quantile("a", 0.9)
    assert sf.first("a") != sf.last("a")
    assert len({sf.sum("a"), sf.sum("a"), sf.max("a")}) == 2


class Longest(sf.Aggregator):
    def __init__(self, input: Any, minimum: int = 0) -> None:
        super().__init__(input)
        self.minimum = minimum

    def create(self) -> str:
        return ""

    def add(self, accumulator: str, value: str) -> str:
        return max(accumulator, value, key=len) if len(value) >= self.minimum else accumulator

    def merge(self, left: str, right: str) -> str:
        return max(left, right, key=len)

    def result(self, accumulator: str) -> str:
        return accumulator


def test_an_own_aggregator_keeps_its_parameters_when_its_input_is_lowered() -> None:
    lowered = Longest(lambda row: row["name"], minimum=3).with_input("__in0")
    assert lowered.minimum == 3
    assert lowered.output(pl.String()) == pl.String()
    assert lowered != Longest("__in0", minimum=4)


def test_an_own_aggregator_that_raises_shows_the_record() -> None:
    with pytest.raises(RecordError, match=r"Longest.add raised TypeError[\s\S]*record: 7"):
        Longest("x").fold(pl.Series([7]), [[0]])


def test_an_accumulator_that_cannot_be_kept_names_its_aggregator() -> None:
    class Sets(Longest):
        def create(self) -> Any:
            return {1}

        def add(self, accumulator: Any, value: Any) -> Any:
            return accumulator

    with pytest.raises(RecordError, match="accumulator of Sets cannot be kept"):
        Sets("x").fold(pl.Series(["a"]), [[0]])


def test_accumulators_come_back_as_they_were() -> None:
    value = {"at": dt.datetime(2013, 1, 1, tzinfo=dt.UTC), "pair": (1, [2.5, None]), 3: b"x"}
    assert unpack(pack(value)) == value
