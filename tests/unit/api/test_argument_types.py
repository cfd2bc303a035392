"""An argument of another type than its signature says is refused by its name, at the line that gave it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col

# Programs without a type checker may write any of these.
wrong: Any = "x"
number: Any = 3


async def looked_up(row: dict[str, Any]) -> dict[str, Any]:
    return row


def stream() -> sf.Stream:
    return sf.Job("typed").read(sf.MemorySource([{"k": "a", "v": 1}]))


def timed() -> sf.Stream:
    return sf.Job("typed").read(sf.MemorySource([{"k": "a", "v": 1}]), event_time=sf.epoch("v", unit="s"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stream().map_async(looked_up, capacity=wrong), "capacity is 'x'"),
        (lambda: stream().map_async(looked_up, ordered=wrong), "ordered is 'x'"),
        (lambda: timed().window(sf.tumbling("1h"), pane_info=wrong), "pane_info is 'x'"),
        (lambda: sf.backoff(wrong), "retries is 'x'"),
        (lambda: sf.backoff(-1), "retries is -1"),
        (lambda: stream().union(number), "union got 3"),
        (lambda: stream().named(number), "3 cannot name an operator"),
        (lambda: stream().parallel(wrong), "the parallelism of read-1 is 'x'"),
        (lambda: stream().parallel(True), "the parallelism of read-1 is True"),
        (lambda: stream().head(wrong), "the number of records to look at is 'x'"),
        (lambda: stream().show(1.5), "the number of records to look at is 1.5"),  # type: ignore[arg-type]
        (lambda: stream().rename(wrong), "rename got 'x'"),
        (lambda: stream().rename({"v": number}), "rename got {'v': 3}"),
        (lambda: stream().drop(number), "the columns to drop is"),
        (lambda: stream().explode("v"), r"column 'v' \(Int64\) holds no lists"),
        (lambda: stream().explode("w"), "no column 'w'"),
        (lambda: sf.Job(number), "3 cannot name a job"),
        (lambda: sf.Job("a").read(sf.MemorySource([{"a": 1}]), event_time=number), "event_time is 3"),
        (lambda: sf.epoch(number), "epoch got 3"),
        (lambda: sf.MemorySource([], batch_rows=wrong), "batch_rows is 'x'"),
        (lambda: sf.DataGen(rate=wrong), "rate is 'x'"),
        (lambda: sf.DataGen(rate=float("nan")), "rate is nan"),
        (lambda: sf.DataGen(rows=wrong), "rows is 'x'"),
        (lambda: sf.DataGen(splits=1.5), "splits is 1.5"),  # type: ignore[arg-type]
        (lambda: sf.HybridSource(number, then=number), "HybridSource got 3"),
        (lambda: sf.FileSource("a.csv", separator=number), "separator is 3"),
        (lambda: sf.FileSource("a.csv", separator=b","), "separator is b','"),  # type: ignore[arg-type]
        (lambda: sf.FileSource("a.csv", quote=number), "quote is 3"),
        (lambda: sf.FileSource("a.csv", null_values=number), "null_values is 3"),
        (lambda: sf.FileSource("a.csv", null_values=[number]), r"null_values is \[3\]"),
        (lambda: sf.FileSource("a.csv", has_header="no"), "has_header is 'no'"),  # type: ignore[arg-type]
        (lambda: sf.FileSource("a.csv", in_order=wrong), "in_order is 'x'"),
        (lambda: sf.FileSink("out/", partition_by=number), "partition_by is 3"),
        (lambda: sf.FileSink("out/", roll=True), "roll .* is True"),
        (lambda: sf.ConsoleSink(limit=wrong), "limit is 'x'"),
        (lambda: sf.KafkaSource("t", group_id=number), "group_id is 3"),
    ],
)  # fmt: skip
def test_it_is_refused_by_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(sf.JobDefinitionError, match=message):
        call()


def test_lists_may_be_exploded() -> None:
    job = sf.Job("lists")
    rows = job.read(sf.MemorySource([{"k": "a", "v": [1, 2]}, {"k": "b", "v": [3]}]))
    out = rows.with_columns(w=col("v")).explode("v", "w").collect()
    job.run()
    assert out.rows() == [
        {"k": "a", "v": 1, "w": 1},
        {"k": "a", "v": 2, "w": 2},
        {"k": "b", "v": 3, "w": 3},
    ]


def test_explode_needs_a_column() -> None:
    with pytest.raises(sf.JobDefinitionError, match="explode without a column"):
        sf.Job("lists").read(sf.MemorySource([{"v": [1]}])).explode()


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_lists_are_exploded_record_by_record(rows: int) -> None:
    lists: list[dict[str, Any]] = [
        {"k": 1, "v": [], "w": None},
        {"k": 2, "v": [1], "w": [2]},
        {"k": 3, "v": None, "w": []},
        {"k": 4, "v": [], "w": []},
        {"k": 5, "v": None, "w": [3]},
        {"k": 6, "v": None, "w": None},
        {"k": 7, "v": [1, 2], "w": [3]},
        {"k": 8, "v": [1], "w": [2, 3]},
    ]
    job = sf.Job("lists")
    out = job.read(sf.MemorySource(lists, batch_rows=rows)).explode("v", "w").on_error("skip").collect()
    result = job.run(mode="streaming")
    assert [tuple(row.values()) for row in out.rows()] == [(2, 1, 2), (6, None, None)]
    assert result.errors == 5


def test_lists_are_arrays_too() -> None:
    pairs = pl.DataFrame({"v": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), "w": [[3, 4], []]})
    job = sf.Job("arrays")
    out = job.read(sf.MemorySource(pairs)).explode("v", "w").select("w").collect()
    with pytest.raises(sf.RecordError, match="the lists of v, w differ in length"):
        job.run()
    assert out.rows() == []
