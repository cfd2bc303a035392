"""Stateless operators on columns, through the public API: each gives what Polars gives, in every mode."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import streamflow as sf
from streamflow import col
from streamflow.operators.connectors.collect import Collected, CollectSink

FRAME = pl.DataFrame(
    {"k": ["a", "b", None, "a"], "v": [1, 2, 3, None], "tags": [["x"], ["y", "z"], [], ["w"]]}
)
MODES = ["batch", "streaming", "micro-batch"]


def result(build, mode: str = "batch", frame: pl.DataFrame = FRAME) -> pl.DataFrame:
    job = sf.Job("test")
    out = build(job.read(sf.MemorySource(frame, batch_rows=3))).collect()
    job.run(mode=mode)
    return out.frame()


async def _awaited(given):
    return given


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda s: s.filter(col("v") > 1), lambda f: f.filter(col("v") > 1)),
        (lambda s: s.select("k", w=col("v") * 2), lambda f: f.select("k", w=col("v") * 2)),
        (lambda s: s.with_columns(w=7), lambda f: f.with_columns(w=7)),
        (
            lambda s: s.with_columns(v=col("v").fill_null(0)),
            lambda f: f.with_columns(v=col("v").fill_null(0)),
        ),
        (lambda s: s.rename({"k": "key"}), lambda f: f.rename({"k": "key"})),
        (lambda s: s.drop("tags"), lambda f: f.drop("tags")),
        (lambda s: s.explode("tags"), lambda f: f.explode("tags")),
        (lambda s: s.map_batches(lambda f: f.unique("v")), None),
    ],
)
def test_a_column_operator_gives_what_polars_gives(build, expected, mode: str) -> None:
    if expected is None:
        assert result(build, mode).height == FRAME.height
        return
    assert_frame_equal(result(build, mode), expected(FRAME), check_dtypes=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bare", [lambda s: s.select(), lambda s: s.drop(*FRAME.columns)])
def test_records_without_columns_are_records(bare, mode: str) -> None:
    assert result(lambda s: bare(s).select(one=1, two=pl.lit("a")), mode).rows() == [(1, "a")] * FRAME.height
    counted = result(lambda s: bare(s).key_by(pl.lit(1).alias("k")).aggregate(n=sf.count()), "batch")
    assert counted["n"].to_list() == [FRAME.height]


@pytest.mark.parametrize("time", [None, pl.lit(2**60).cast(pl.Datetime("us", "UTC"))])
@pytest.mark.parametrize("mode", MODES)
def test_a_function_of_frames_gives_times_that_there_are(time: pl.Expr | None, mode: Any) -> None:
    job = sf.Job("times")
    stream = job.read(sf.MemorySource([{"v": 1, "ts": 0}]), event_time=sf.epoch("ts", unit="us"))
    timed = stream.map_batches(lambda frame: frame.with_columns(__event_time=time))
    timed.window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    with pytest.raises(sf.StreamflowError, match=r"map-batches-1, .*gave '__event_time' as null, or beyond"):
        job.run(mode=mode)


def test_unread_columns_are_not_read() -> None:
    job = sf.Job("test")
    job.read(sf.MemorySource(FRAME)).filter(col("v") > 1).select("k").collect()
    assert "columns: k, v" in job.plan(physical=True).text()


def test_everything_is_read_where_everything_is_written() -> None:
    job = sf.Job("test")
    job.read(sf.MemorySource(FRAME)).filter(col("v") > 1).collect()
    assert "columns:" not in job.plan(physical=True).text()


def test_split_sends_each_record_to_one_branch() -> None:
    job = sf.Job("test")
    branches = job.read(sf.MemorySource(FRAME)).split(small=col("v") < 2, any=col("v").is_not_null())
    outs = {name: stream.collect() for name, stream in branches.items()}
    job.run()
    assert {name: out.frame()["v"].to_list() for name, out in outs.items()} == {
        "small": [1],
        "any": [2, 3],
        "rest": [None],
    }


def test_branches_may_be_called_like_an_operators_own_outputs() -> None:
    job = sf.Job("test")
    stream = job.read(sf.MemorySource(FRAME))
    branches = stream.split(late=col("v") == 1, errors=col("v") == 2, main=col("v") == 3)
    outs = {name: branch.collect() for name, branch in branches.items()}
    result = job.run()
    found = {name: out.frame()["v"].to_list() for name, out in outs.items()}
    assert found == {"late": [1], "errors": [2], "main": [3], "rest": [None]}
    assert (result.late, result.errors, result.records_out["split-1"]) == (0, 0, 4)


def test_a_record_for_which_a_branch_s_expression_fails_is_a_bad_one() -> None:
    texts = pl.DataFrame({"s": ["1", "x", "3"]})

    def branches(job: sf.Job) -> dict[str, sf.Stream]:
        return job.read(sf.MemorySource(texts)).split(large=col("s").cast(pl.Int64) > 1)

    job = sf.Job("test")
    large = branches(job)["large"].on_error("skip").collect()
    rest = job.read(sf.MemorySource(texts)).split(errors=col("s").cast(pl.Int64) > 1)["rest"]
    small, bad = rest.on_error("skip").collect(), Collected()
    branches(job)["rest"].on_error(CollectSink(bad)).collect()
    assert job.run().errors == 3
    assert (large.rows(), small.rows()) == ([{"s": "3"}], [{"s": "1"}])
    assert [row["record"] for row in bad.rows()] == ["{'s': 'x'}"]
    job = sf.Job("test")
    branches(job)["large"].collect()
    with pytest.raises(sf.RecordError, match=r"split-1(.|\n)*record: {'s': 'x'}"):
        job.run()


def test_union_gives_all_records_of_both() -> None:
    job = sf.Job("test")
    left = job.read(sf.MemorySource(FRAME))
    out = left.filter(col("v") > 1).union(left.filter(col("v") <= 1)).select("v").collect()
    job.run()
    assert sorted(out.frame()["v"].to_list()) == [1, 2, 3]


class TestErrorPolicies:
    frame = pl.DataFrame({"text": ["1", "2", "three", "4", "five"]})

    def build(self, policy) -> tuple[sf.Job, sf.Collected]:
        job = sf.Job("test")
        stream = (
            job.read(sf.MemorySource(self.frame)).with_columns(n=col("text").cast(pl.Int64)).named("parse")
        )
        return job, (stream.on_error(policy) if policy else stream).collect()

    def test_fail_names_the_operator_and_shows_the_record(self) -> None:
        job, _ = self.build(None)
        with pytest.raises(sf.RecordError, match=r"operator parse.*(?s:.*)three"):
            job.run()

    def test_skip_counts_and_goes_on(self) -> None:
        job, out = self.build("skip")
        result = job.run()
        assert out.frame()["n"].to_list() == [1, 2, 4]
        assert result.errors == 2

    def test_a_sink_gets_the_record_with_its_reason_and_origin(self) -> None:
        class Letters(sf.Collected):
            pass

        from streamflow.operators.connectors.collect import CollectSink

        letters = Letters()
        job, out = self.build(CollectSink(letters))
        job.run()
        assert out.frame()["n"].to_list() == [1, 2, 4]
        rows = letters.rows()
        assert [row["record"] for row in rows] == ["{'text': 'three'}", "{'text': 'five'}"]
        assert {row["operator"] for row in rows} == {"parse"}
        assert all("conversion" in row["reason"] for row in rows)

    def test_an_unknown_policy_is_refused(self) -> None:
        with pytest.raises(sf.JobDefinitionError, match="did you mean 'skip'"):
            self.build("skipp")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda s: s.filter(col("vv") > 1), r"no column 'vv'; there are: k, tags, v; did you mean 'v'"),
        (lambda s: s.filter(col("v") + 1), "needs a yes or no"),
        (lambda s: s.filter("v > 1"), "give an expression"),
        (lambda s: s.select("kk"), "no column 'kk'"),
        (lambda s: s.drop("nope"), "no column 'nope'"),
        (lambda s: s.rename({"nope": "x"}), "no column 'nope'"),
        (lambda s: s.with_columns(x=col("v").str.len_chars()), "operator with-columns-1"),
        (lambda s: s.map_batches(lambda f: 1), "returned a int"),
        (lambda s: s.map_batches(lambda f: f.select("zzz")), "failed on an empty frame"),
        (lambda s: s.map_batches(_awaited, schema={"v": int}), "a coroutine function"),
        (lambda s: s.map_async(_awaited, retries=3), "retries is 3; write sf.backoff"),
        (lambda s: s.union(s.select("k")), "differ"),
        (lambda s: s.split(rest=col("v") > 1), "'rest'"),
        (lambda s: s.named("Not A Name"), "cannot name an operator"),
        (lambda s: s.parallel(0), "at least 1"),
        (lambda s: s.write("out.parquet"), "give a sink"),
        (lambda s: s.key_by(), "without a key"),
        (lambda s: s.key_by("kk"), "no column 'kk'"),
        (lambda s: s.key_by("k").window(sf.tumbling("1m")), "this stream has none"),
        (lambda s: s.key_by("k").aggregate(), "without an aggregate"),
        (lambda s: s.key_by("k").aggregate(n=3), "no aggregate"),
        (lambda s: s.key_by("k").aggregate(n=sf.sum("vv")), "no column 'vv'"),
    ],
)
def test_a_mistake_is_an_error_when_the_job_is_built(build, message: str) -> None:
    job = sf.Job("test")
    with pytest.raises(sf.JobDefinitionError, match=message):
        build(job.read(sf.MemorySource(FRAME)))


def test_a_job_that_writes_nothing_is_refused() -> None:
    job = sf.Job("test")
    job.read(sf.MemorySource(FRAME))
    with pytest.raises(sf.JobDefinitionError, match="writes nothing"):
        job.run()


def test_a_job_can_be_run_twice() -> None:
    job = sf.Job("test")
    out = job.read(sf.MemorySource(FRAME)).collect()
    job.run()
    job.run()
    assert out.frame().height == FRAME.height


@pytest.mark.parametrize("schema", [None, {"v": int}], ids=["tried", "declared"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda f: f.with_columns(v=pl.lit("a")), "gave 'v' as String, not Int64"),
        (lambda f: f.with_columns(v=pl.lit(1.5)), "gave 'v' as Float64, not Int64"),
        (lambda f: f.with_columns(v=pl.lit(1, dtype=pl.UInt64)), "gave 'v' as UInt64, not Int64"),
        (lambda f: f.with_columns(w=1), "gave a column that the stream does not have: 'w'"),
        (lambda f: f.rename({"v": "w"}), "gave no column 'v'"),
        (lambda f: pl.DataFrame(), "gave no column 'v'"),
    ],
)
def test_a_function_of_frames_gives_the_columns_that_the_stream_has(function, message, mode, schema) -> None:
    def by_data(frame: pl.DataFrame) -> pl.DataFrame:
        return function(frame) if frame.height else frame

    with pytest.raises(sf.StreamflowError, match=message) as caught:
        result(lambda s: s.select("v").map_batches(by_data, schema=schema), mode)
    assert "map-batches-1" in str(caught.value)
    assert "test_columns.py" in str(caught.value)


def test_columns_of_a_function_of_frames_take_what_changes_no_value() -> None:
    types = {"n": int, "x": float, "s": str}

    def numbers(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(s=None, x=pl.lit(2), n=pl.lit(1, dtype=pl.Int8))

    frame = result(lambda s: s.map_batches(lambda f: numbers(f).head(f.height), schema=types))
    assert dict(frame.schema) == {"n": pl.Int64(), "x": pl.Float64(), "s": pl.String()}
    assert frame.rows()[0] == (1, 2.0, None)


@pytest.mark.parametrize("mode", MODES)
def test_a_function_of_frames_takes_columns_whose_type_shows_when_the_job_runs(mode) -> None:
    """A key that is a Python function, without an annotation."""
    frame = result(
        lambda s: s.key_by(lambda row: str(row["k"])).aggregate(n=sf.count()).map_batches(lambda f: f), mode
    )
    assert set(frame.columns) >= {"n"}
    assert frame.height
