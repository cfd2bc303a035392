"""Python functions on rows, through the public API: what they see, what they may return, and what happens when one
raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

import polars as pl
import pytest

import streamflow as sf
from streamflow import col

ROWS = [{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "c", "v": 3}]


def run(build, rows=ROWS, **settings):
    job = sf.Job("test")
    out = build(job.read(sf.MemorySource(rows))).collect()
    result = job.run(**settings)
    return out, result


class Sized(TypedDict):
    name: str
    size: int


class Pair(NamedTuple):
    left: str
    right: float


@dataclass
class Stamped:
    at: datetime
    tags: list[str]
    note: str | None


class Ordered(TypedDict):
    sizes: list[Sized]


class TestReturnTypes:
    def test_a_field_within_a_field_that_nobody_declared_is_told(self) -> None:
        def ordered(row) -> Ordered:
            return {"sizes": [{"name": row["k"], "sizee": row["v"]}]}  # type: ignore[typeddict-item]

        with pytest.raises(sf.RecordError, match=r"'sizes': no field 'sizee'.*did you mean 'size'"):
            run(lambda s: s.map(ordered))

    def test_a_scalar_gives_the_column_value(self) -> None:
        def double(row) -> int:
            return row["v"] * 2

        out, _ = run(lambda s: s.map(double))
        assert out.frame().to_dict(as_series=False) == {"value": [2, 4, 6]}

    def test_a_typed_dict_gives_its_fields(self) -> None:
        def sized(row) -> Sized:
            return {"name": row["k"], "size": row["v"]}

        out, _ = run(lambda s: s.map(sized).filter(col("size") > 1))
        assert out.rows() == [{"name": "b", "size": 2}, {"name": "c", "size": 3}]

    def test_a_named_tuple_gives_its_fields(self) -> None:
        def pair(row) -> Pair:
            return Pair(row["k"], row["v"] / 2)

        out, _ = run(lambda s: s.map(pair).select("right"))
        assert out.frame()["right"].to_list() == [0.5, 1.0, 1.5]

    def test_a_dataclass_gives_its_fields(self) -> None:
        def stamped(row) -> Stamped:
            return Stamped(datetime(2013, 1, row["v"], tzinfo=UTC), [row["k"]], None)

        out, _ = run(lambda s: s.map(stamped).with_columns(n=col("tags").list.len()))
        assert out.frame().schema["at"] == pl.Datetime("us", "UTC")
        assert out.frame()["n"].to_list() == [1, 1, 1]

    def test_schema_says_it_where_there_is_no_annotation(self) -> None:
        out, _ = run(lambda s: s.map(lambda r: {"w": r["v"]}, schema={"w": sf.Int64}).filter(col("w") == 2))
        assert out.rows() == [{"w": 2}]

    def test_without_either_the_stream_holds_objects(self) -> None:
        out, _ = run(lambda s: s.map(lambda r: (r["k"], r["v"])))
        assert out.rows() == [("a", 1), ("b", 2), ("c", 3)]

    def test_columns_of_objects_are_refused_with_what_to_do(self) -> None:
        with pytest.raises(sf.JobDefinitionError, match="return annotation or schema="):
            run(lambda s: s.map(lambda r: r).filter(col("v") > 1))

    def test_a_field_no_column_stands_for_is_named(self) -> None:
        class Odd(TypedDict):
            what: complex

        def odd(row) -> Odd:
            return {"what": 1j}

        odd.__annotations__["return"] = Odd
        with pytest.raises(sf.JobDefinitionError, match="'what'"):
            run(lambda s: s.map(odd))

    def test_a_value_that_is_not_what_was_promised_is_shown(self) -> None:
        def promised(row) -> int:
            found: Any = "three" if row["v"] == 3 else row["v"]
            return found

        with pytest.raises(sf.RecordError, match="three"):
            run(lambda s: s.map(promised).filter(col("value") > 0))


class TestFlatMap:
    def test_each_item_becomes_a_record(self) -> None:
        def words(row: dict[str, str]) -> Iterator[str]:
            yield from row["line"].split()

        out, _ = run(
            lambda s: s.flat_map(words).filter(col("value") != "b"), pl.DataFrame({"line": ["a b", "", "c"]})
        )
        assert out.frame()["value"].to_list() == ["a", "c"]

    def test_one_column_is_a_row_like_any_other(self) -> None:
        out, _ = run(lambda s: s.map(lambda row: row["line"].upper()), pl.DataFrame({"line": ["a"]}))
        assert out.rows() == ["A"]


class TestErrors:
    @staticmethod
    def tenth(row) -> float:
        return 10 / (row["v"] - 2)

    def test_fail_names_the_operator_and_the_record(self) -> None:
        with pytest.raises(
            sf.RecordError, match=r"operator map-1, \S+ in tenth: ZeroDivisionError.*(?s:.*)'k': 'b'"
        ):
            run(lambda s: s.map(self.tenth))

    def test_skip_goes_on_and_counts(self) -> None:
        out, result = run(lambda s: s.map(self.tenth).on_error("skip"))
        assert out.frame()["value"].to_list() == [-10.0, 10.0]
        assert result.errors == 1

    def test_each_record_reaches_the_function_once(self) -> None:
        seen: list[int] = []

        def noted(row) -> float:
            seen.append(row["v"])
            return 1 / (row["v"] % 2)

        run(lambda s: s.map(noted).on_error("skip"), [{"k": "x", "v": v} for v in range(9)])
        assert seen == list(range(9))

    def test_a_generator_that_raises_half_way_gives_nothing(self) -> None:
        def items(row) -> Iterator[int]:
            yield 1
            if row["v"] == 2:
                raise ValueError("no")

        out, result = run(lambda s: s.flat_map(items).on_error("skip"))
        assert out.frame()["value"].to_list() == [1, 1]
        assert result.errors == 1


class TestMapAsync:
    def test_results_keep_their_order(self) -> None:
        async def answer(row) -> int:
            for _ in range(5 - row["v"]):
                await asyncio.sleep(0)
            return row["v"]

        out, _ = run(lambda s: s.map_async(answer, capacity=2))
        assert out.frame()["value"].to_list() == [1, 2, 3]

    def test_no_more_than_capacity_run_at_once(self) -> None:
        running: list[int] = [0, 0]

        async def answer(row) -> int:
            running[0] += 1
            running[1] = max(running)
            await asyncio.sleep(0)
            running[0] -= 1
            return 1

        run(lambda s: s.map_async(answer, capacity=2), [{"v": v} for v in range(20)])
        assert running == [0, 2]

    def test_a_request_is_tried_again(self) -> None:
        attempts: dict[int, int] = {}

        async def flaky(row) -> int:
            attempts[row["v"]] = attempts.get(row["v"], 0) + 1
            if attempts[row["v"]] < 3:
                raise ConnectionError("no")
            return row["v"]

        out, _ = run(lambda s: s.map_async(flaky, retries=sf.backoff(2, first="1us")))
        assert out.frame()["value"].to_list() == [1, 2, 3]
        assert set(attempts.values()) == {3}

    def test_no_answer_in_time_is_a_bad_record(self) -> None:
        async def never(row) -> int:
            await asyncio.Event().wait()
            return 1

        out, result = run(lambda s: s.map_async(never, timeout="1ms").on_error("skip"))
        assert (len(out), result.errors) == (0, 3)


class TestKeysAndInputs:
    def test_functions_for_keys_and_inputs_on_objects(self) -> None:
        job = sf.Job("test")
        objects = job.read(sf.MemorySource([("a", 1), ("b", 2), ("a", 3)]))
        out = objects.key_by(lambda r: r[0]).aggregate(n=sf.count(), total=sf.sum(lambda r: r[1])).collect()
        job.run()
        rows = sorted((row["key"], row["n"], row["total"]) for row in out.rows())
        assert rows == [("a", 2, 4), ("b", 1, 2)]

    def test_fields_of_objects_by_name(self) -> None:
        job = sf.Job("test")
        objects = job.read(sf.MemorySource(ROWS * 2, schema=sf.OBJECTS))
        out = objects.key_by("k").aggregate(total=sf.sum("v")).collect()
        job.run()
        assert sorted((row["k"], row["total"]) for row in out.rows()) == [("a", 2), ("b", 4), ("c", 6)]

    def test_a_key_function_that_raises_is_a_bad_record(self) -> None:
        job = sf.Job("test")
        job.read(sf.MemorySource([1, 2])).key_by(lambda r: r["k"]).aggregate(n=sf.count()).collect()
        with pytest.raises(sf.RecordError, match=r"key-by-1, \S+ in <lambda>: TypeError"):
            job.run()

    def test_reduce_combines_two_by_two(self) -> None:
        job = sf.Job("test")

        def larger(left, right):
            return left if left["v"] > right["v"] else right

        out = job.read(sf.MemorySource([*ROWS, {"k": "a", "v": 9}])).key_by("k").reduce(larger).collect()
        job.run()
        assert sorted(row["value"]["v"] for row in out.rows()) == [2, 3, 9]

    def test_reduce_of_objects(self) -> None:
        job = sf.Job("test")
        objects = job.read(sf.MemorySource([("a", 1), ("a", 5), ("b", 2)]))
        out = objects.key_by(lambda r: r[0]).reduce(lambda x, y: (x[0], x[1] + y[1])).collect()
        job.run()
        assert sorted((row["key"], row["value"][1]) for row in out.rows()) == [("a", 6), ("b", 2)]


class TestPoliciesOfKeysAndInputs:
    ROWS = ({"k": "a", "v": 1}, {"k": "b", "v": 0}, {"k": "a", "v": 2})

    @staticmethod
    def by_function(stream: sf.Stream) -> sf.Stream:
        return stream.key_by(lambda r: 2 // r["v"] * 0).aggregate(n=sf.count())

    @staticmethod
    def of_function(stream: sf.Stream) -> sf.Stream:
        return stream.key_by("k").aggregate(n=sf.sum(lambda r: 2 // r["v"]))

    @pytest.mark.parametrize("schema", [None, sf.OBJECTS])
    @pytest.mark.parametrize(("build", "expected"), [(by_function, [2]), (of_function, [3])])
    def test_skip_counts_the_record(self, build: Any, expected: list[int], schema: Any) -> None:
        job = sf.Job("keys")
        out = build(job.read(sf.MemorySource(self.ROWS, schema=schema))).on_error("skip").collect()
        result = job.run()
        assert ([row["n"] for row in out.rows()], result.errors) == (expected, 1)

    def test_dead_letters_get_the_record_once(self) -> None:
        letters = []

        async def take(batch: list[Any]) -> None:
            letters.extend(batch)

        job = sf.Job("keys")
        self.by_function(job.read(sf.MemorySource(self.ROWS))).on_error(sf.sink(take)).collect()
        job.run()
        assert [letter["operator"] for letter in letters] == ["key-by-1"]
        assert "ZeroDivisionError" in letters[0]["reason"]
