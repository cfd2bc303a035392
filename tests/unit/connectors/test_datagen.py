"""`DataGen`: the same events from any position, paced by the clock it is handed."""

from __future__ import annotations

import asyncio
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.schema import OBJECTS, Schema
from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.connectors.datagen import DataGen
from streamflow.operators.contract.source import Split
from tests.unit.connectors.driving import JumpingClock, discover, read, read_on, rows, source_context


def test_events_without_a_recipe_look_random_and_are_the_same_each_time() -> None:
    gen = DataGen(rows=2000, seed=7)
    first, again, other = (pl.DataFrame(rows(made)) for made in (gen, gen, DataGen(rows=2000, seed=8)))
    assert first.equals(again)
    assert not first.equals(other)
    assert first["ts"].diff().drop_nulls().unique().dt.total_milliseconds().to_list() == [1]
    assert first["key"].n_unique() == 100
    assert first["value"].is_between(0, 1, closed="left").all()
    assert abs(first["value"].mean() - 0.5) < 0.03  # type: ignore[operator]


@given(count=st.integers(0, 20), splits=st.integers(1, 4), batch_rows=st.integers(1, 7))
def test_splits_share_the_numbers(count: int, splits: int, batch_rows: int) -> None:
    gen = DataGen({"n": pl.col("index")}, rows=count, splits=splits)
    found = discover(gen)
    assert len(found) == splits
    parts = [[row["n"] for row in read_on(gen, split, None, batch_rows=batch_rows)] for split in found]
    assert parts == [list(range(number, count, splits)) for number in range(splits)]


def test_rows_come_at_the_rate() -> None:
    clock = JumpingClock()
    gen = DataGen(lambda n: {"n": n}, rate=10)
    assert not gen.bounded

    async def run() -> list[tuple[float, int]]:
        reader = gen.reader(Split("datagen-0", {"first": 0}), None, source_context(clock=clock))
        seen = []
        for _ in range(4):
            fetch = await reader.fetch()
            assert fetch is not None
            seen.append((round(clock.time, 3), fetch.position["index"]))
            if len(seen) == 2:
                clock.time += 1
        return seen

    # The second pause is the consumer's: what became due meanwhile comes at once.
    assert asyncio.run(run()) == [(0.1, 1), (0.2, 2), (1.2, 12), (1.3, 13)]


def test_a_high_rate_comes_in_pieces_of_five_milliseconds() -> None:
    clock = JumpingClock()
    reading = read(DataGen(rows=500, rate=100_000), clock=clock)
    assert [len(batch) for batch in reading.batches] == [500]
    assert clock.time == pytest.approx(0.005)


def test_a_function_may_make_objects() -> None:
    assert rows(DataGen(str, rows=3)) == ["0", "1", "2"]
    assert rows(DataGen(lambda n: {"n": n}, rows=1, schema=OBJECTS)) == [{"n": 0}]
    assert DataGen(lambda n: {"n": n}, rows=0).output_type().schema == Schema({"n": pl.Int64})


def test_rows_that_do_not_fit_follow_the_policy() -> None:
    def make(number: int) -> dict[str, Any]:
        return {"n": "x" if number == 12 else number}

    gen = DataGen(make, rows=14)
    assert gen.output_type().schema == Schema({"n": pl.Int64})
    reading = read(gen, on_error="skip")
    assert len(reading.rows) == 13
    assert reading.bad[0].startswith("split datagen-0, row 12: the row does not fit the schema")
    with pytest.raises(RecordError, match="row 12"):
        rows(gen)


def test_a_function_that_raises_is_named() -> None:
    def broken(number: int) -> dict[str, int]:
        return {"n": 1 // (12 - number)}

    with pytest.raises(RecordError, match=r"broken\(12\) raised ZeroDivisionError"):
        rows(DataGen(broken, rows=14))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate is 0; rows a second must be more than 0"),
        ({"rows": -1}, "rows is -1"),
        ({"splits": 0}, "splits is 0"),
        ({"make": {"a": pl.col("indx")}}, "the columns cannot be made: "),
        ({"start": "soon"}, "'soon' is not a time"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobDefinitionError) as caught:
        DataGen(**options)
    assert f": {message}" in str(caught.value)


def test_plans_say_what_it_makes() -> None:
    assert DataGen(rows=5, rate=2).describe() == "DataGen(5 rows, 2 a second)"
    assert DataGen().describe() == "DataGen(endless)"


@pytest.mark.parametrize("schema", [None, {"text": pl.String}, OBJECTS])
def test_large_rows_come_few_at_a_time(schema: Any) -> None:
    reading = read(
        DataGen(lambda n: {"text": chr(97 + n % 26) * 1_000_000}, rows=200, schema=schema), batch_rows=65_536
    )
    assert [row["text"][0] for row in reading.rows] == [chr(97 + n % 26) for n in range(200)]
    sizes = [len(batch) for batch in reading.batches]
    assert sizes[0] == 64
    assert max(sizes[1:]) <= 32
