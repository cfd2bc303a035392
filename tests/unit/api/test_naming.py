"""Streams stay usable whatever their operators are called later."""

from __future__ import annotations

import pytest

import streamflow as sf


def test_a_stream_from_before_a_renaming_leads_to_the_same_operator() -> None:
    job = sf.Job("names")
    before = job.read(sf.MemorySource([{"n": 1}, {"n": 2}]))
    before.named("numbers")
    out = before.filter(sf.col("n") > 1).collect()
    job.run()
    assert out.rows() == [{"n": 2}]
    assert job.graph.nodes[0].id == "numbers"


def test_names_may_go_there_and_back() -> None:
    job = sf.Job("names")
    first = job.read(sf.MemorySource([{"n": 1}]))
    second = first.named("other")
    first.named("read-1")
    out = second.union(first).collect()
    job.run()
    assert out.rows() == [{"n": 1}, {"n": 1}]


def test_a_name_is_given_once() -> None:
    job = sf.Job("names")
    job.read(sf.MemorySource([{"n": 1}])).named("numbers")
    with pytest.raises(sf.JobDefinitionError, match="two operators are named 'numbers'"):
        job.read(sf.MemorySource([{"n": 1}])).named("numbers")


def test_a_stream_from_before_a_renaming_knows_its_columns_and_can_be_keyed() -> None:
    job = sf.Job("names")
    rows = job.read(sf.MemorySource([{"k": "a", "n": 1}]))
    mapped = rows.map(lambda row: row, schema={"k": sf.String, "n": sf.Int64})
    rows.named("source")
    mapped.named("mapped")
    assert repr(rows) == "Stream(source: Schema(k: String, n: Int64))"
    assert repr(mapped) == "Stream(mapped: Schema(k: String, n: Int64))"
    counted = [stream.key_by("k").aggregate(n=sf.count()).collect() for stream in (mapped, rows)]
    assert len(rows.head(1)) == 1
    job.run(mode="batch")
    assert [out.frame()["n"].to_list() for out in counted] == [[1], [1]]
