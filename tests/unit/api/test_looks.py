"""First steps of a user: a look at a stream, names from other libraries, notebooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

import streamflow as sf
from streamflow import col


def numbers(seen: list[int] | None = None, rows: int | None = None) -> sf.Stream:
    def make(n: int) -> dict[str, Any]:
        if seen is not None:
            seen.append(n)
        return {"k": "ab"[n % 2], "v": n, "ts": n * 1_000}

    return sf.Job("look").read(sf.DataGen(make, rows=rows), event_time=sf.epoch("ts"))


class TestHead:
    def test_it_gives_the_first_rows_and_reads_no_further(self) -> None:
        seen: list[int] = []
        frame = numbers(seen).filter(col("v") % 2 != 0).select("v").head(3)
        assert isinstance(frame, pl.DataFrame)
        assert frame["v"].to_list() == [1, 3, 5]
        assert max(seen) < 200

    def test_objects_come_as_a_list(self) -> None:
        found = numbers().map(lambda row: row["v"]).head(2)
        assert isinstance(found, list)
        assert found == [0, 1]

    def test_fewer_where_the_input_ends(self) -> None:
        frame = numbers(rows=2).head(5)
        assert isinstance(frame, pl.DataFrame)
        assert frame.height == 2
        nothing = numbers(rows=2).filter(col("v") > 5).head()
        assert isinstance(nothing, pl.DataFrame)
        assert nothing.columns == ["k", "v", "ts"]

    def test_results_of_windows_can_be_looked_at(self) -> None:
        totals = numbers().key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count())
        frame = totals.head(2)
        assert isinstance(frame, pl.DataFrame)
        assert frame["n"].to_list() == [5, 5]

    def test_nothing_else_of_the_job_runs(self) -> None:
        stream = numbers(rows=10)
        out = stream.collect()
        stream.head(1)
        with pytest.raises(sf.StreamflowError, match="run the job first"):
            out.rows()

    def test_it_works_where_an_event_loop_is_running(self) -> None:
        async def look() -> Any:
            return numbers(rows=3).map(lambda row: row["v"]).head(3)

        assert asyncio.run(look()) == [0, 1, 2]

    def test_what_a_function_raises_is_raised(self) -> None:
        with pytest.raises(sf.RecordError, match="ZeroDivisionError"):
            numbers().map(lambda row: 1 // row["v"]).head(1)

    @pytest.mark.parametrize("n", [0, -1, True])
    def test_a_number_that_makes_no_sense_is_refused(self, n: Any) -> None:
        with pytest.raises(sf.JobDefinitionError, match="the number of records to look at is"):
            numbers().head(n)

    def test_show_prints_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        numbers().select("k", "v").show(2)
        numbers().map(lambda row: {"w": row["v"]}).show(1)
        assert capsys.readouterr().out.splitlines() == ["k  v", "a  0", "b  1", "w", "0"]


KEYED: Callable[[], Any] = lambda: numbers().key_by("k")  # noqa: E731


@pytest.mark.parametrize(
    ("thing", "name", "advice"),
    [
        (numbers, "group_by", "key_by"),
        (numbers, "agg", r"key_by\(…\)\.aggregate"),
        (numbers, "where", "filter"),
        (numbers, "with_column", "with_columns"),
        (numbers, "sink", "write"),
        (numbers, "print", "ConsoleSink"),
        (numbers, "limit", "head"),
        (numbers, "slect", "did you mean 'select'"),
        (numbers, "order_by", "sort"),
        (numbers, "drop_duplicates", "deduplicate"),
        (numbers, "avg", "mean"),
        (numbers, "match", r"key_by\(…\)\.match"),
        (lambda: sf, "median", r"use quantile\(column, 0.5\)"),
        (lambda: sf, "avg", "use mean"),
        (lambda: sf, "KafkaSouce", "did you mean 'KafkaSource'"),
        (KEYED, "median", "sf.quantile"),
        (lambda: KEYED().window(sf.tumbling("1h")), "std", "sf.std"),
        (KEYED, "agg", "aggregate"),
        (KEYED, "apply", "process"),
        (KEYED, "deduplicate", "of the stream"),
        (lambda: KEYED().window(sf.tumbling("1h")), "agg", "aggregate"),
        (lambda: KEYED().window(sf.tumbling("1h")), "aggregat", "did you mean 'aggregate'"),
    ],
)
def test_names_of_other_libraries_say_what_to_use(thing: Callable[[], Any], name: str, advice: str) -> None:
    with pytest.raises(AttributeError, match=advice):
        getattr(thing(), name)
    assert not hasattr(thing(), name)


@pytest.mark.parametrize("name", ["add", "apply", "builder", "operator", "read"])
def test_a_stream_has_no_internals_among_its_names(name: str) -> None:
    assert name not in dir(sf.Stream)


def test_the_package_offers_its_names_and_its_version() -> None:
    assert dir(sf) == sorted(sf.__all__)
    assert sf.__version__[0].isdigit()


class TestNotebooks:
    @pytest.mark.parametrize("physical", [False, True])
    def test_a_plan_checks_its_settings(self, physical: bool) -> None:
        job = sf.Job("looks")
        job.read(sf.MemorySource([{"v": 1}])).collect()
        with pytest.raises(sf.ConfigError, match="parallelism is 'x'"):
            job.plan(physical=physical, parallelism="x")  # type: ignore[arg-type]

    def test_a_plan_is_a_picture_and_its_text(self) -> None:
        job = sf.Job("<plan>")
        stream = job.read(sf.MemorySource([{"v": 1}]))
        stream.filter(col("v") > 0).union(stream).collect()
        plan = job.plan()
        assert str(plan) == plan.text()
        root = ElementTree.fromstring(plan.svg())
        boxes = [each for each in root.iter() if each.tag.endswith("rect")]
        lines = [each for each in root.iter() if each.tag.endswith("path")]
        assert (len(boxes), len(lines)) == (4, 4)
        shown = plan._repr_html_()
        assert plan.svg() in shown
        assert "job &lt;plan&gt;" in shown

    def test_streams_results_and_what_was_collected_are_tables(self) -> None:
        job = sf.Job("tables")
        stream = job.read(sf.MemorySource([{"v": 1, "t": "<b>"}]))
        out = stream.collect()
        assert "not run yet" in out._repr_html_()
        result = job.run()
        assert "<td>Int64</td>" in stream._repr_html_()
        assert "<td>&lt;b&gt;</td>" in out._repr_html_()
        assert "<td>read-1</td><td>1</td>" in result._repr_html_()
