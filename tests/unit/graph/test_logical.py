"""The logical graph as it is written down: each call adds one node, earlier ones stay, names are moved everywhere."""

import pytest

import streamflow as sf
from streamflow import col
from streamflow.graph.logical import Input, OperatorNode, SinkNode, SourceNode, inputs_of


def written() -> sf.Job:
    job = sf.Job("written")
    events = job.read(sf.MemorySource([{"k": "a", "v": 1}])).filter(col("v") > 0)
    events.select("k").collect()
    events.select("v").collect()
    return job


def test_each_call_adds_one_node_after_what_it_reads() -> None:
    graph = written().graph
    assert [node.id for node in graph.nodes] == [
        "read-1",
        "filter-1",
        "select-1",
        "write-1",
        "select-2",
        "write-2",
    ]
    seen: set[str] = set()
    for node in graph.nodes:
        assert {read.node for read in inputs_of(node)} <= seen
        seen.add(node.id)


def test_the_same_program_gives_the_same_ids() -> None:
    assert [node.id for node in written().graph.nodes] == [node.id for node in written().graph.nodes]


def test_a_graph_taken_earlier_does_not_change() -> None:
    job = sf.Job("later")
    stream = job.read(sf.MemorySource([{"v": 1}]))
    before = job.graph
    stream.named("renamed").filter(col("v") > 0).collect()
    assert [node.id for node in before.nodes] == ["read-1"]


def test_a_new_name_holds_everywhere() -> None:
    job = sf.Job("renamed")
    events = job.read(sf.MemorySource([{"v": 1}]))
    events.filter(col("v") > 0).collect()
    events.named("events").select("v").collect()
    graph = job.graph
    assert [type(node) for node in graph.nodes] == [
        SourceNode,
        OperatorNode,
        SinkNode,
        OperatorNode,
        SinkNode,
    ]
    assert inputs_of(graph.node("filter-1")) == (Input("events"),)
    assert {node.id for node in graph.readers("events")} == {"filter-1", "select-1"}
    with pytest.raises(KeyError):
        graph.node("read-1")


def test_side_outputs_have_their_own_type_and_readers() -> None:
    job = sf.Job("sides")
    events = job.read(sf.MemorySource([{"k": "a", "ts": 0}]), event_time=sf.epoch("ts"))
    results = events.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count())
    results.late.collect()
    results.collect()
    graph = job.graph
    assert list(graph.type_of(Input("window-1")).schema) == ["k", "window_start", "window_end", "n"]  # type: ignore[arg-type]
    assert list(graph.type_of(Input("window-1", "late")).schema) == ["k", "ts"]  # type: ignore[arg-type]
    assert [node.id for node in graph.readers("window-1", "late")] == ["write-1"]


def test_a_job_is_bounded_if_all_its_sources_are() -> None:
    job = sf.Job("bounds")
    job.read(sf.MemorySource([{"v": 1}])).collect()
    assert job.graph.bounded
    job.read(sf.DataGen(rate=1)).collect()
    assert not job.graph.bounded


def test_building_reads_no_data() -> None:
    def never(row: object) -> object:
        raise AssertionError("a function ran while the job was built")

    job = sf.Job("lazy")
    job.read(sf.MemorySource([{"v": 1}])).map(never).filter(never).collect()
    job.plan(physical=True).text()
