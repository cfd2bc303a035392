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
