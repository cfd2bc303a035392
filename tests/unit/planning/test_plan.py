"""The planner's decisions: combiners, fusion, conversions, exchanges, chains, the read-ahead."""

from typing import Any

import pytest

import streamflow as sf
from streamflow import col
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.graph.physical import PhysicalPlan

ROWS = [{"k": "a", "ts": 0, "v": 1.0, "note": "x"}]


def start() -> tuple[sf.Job, sf.Stream]:
    job = sf.Job("planned")
    return job, job.read(sf.MemorySource(ROWS), event_time=sf.epoch("ts"))


def physical(job: sf.Job, parallelism: int = 1, **more: Any) -> PhysicalPlan:
    return physical_plan(job.graph, Settings.resolve({"parallelism": parallelism, **more}, environ={}))


def chains(plan: PhysicalPlan) -> list[list[str]]:
    return [[operator.spec.kind for operator in task.chain] for task in plan.tasks]


def edges(plan: PhysicalPlan) -> list[tuple[str, tuple[str, ...]]]:
    return [(edge.exchange.value, edge.keys) for edge in plan.edges]


def kinds(plan: PhysicalPlan) -> list[str]:
    return [kind for chain in chains(plan) for kind in chain]


def test_what_only_transforms_is_one_task() -> None:
    job, events = start()
    events.filter(col("v") > 1).map(dict).collect()
    plan = physical(job, 3)
    assert len(plan.tasks) == 1
    assert plan.tasks[0].parallelism == 3
    assert plan.edges == ()


def test_a_key_makes_a_hash_exchange_where_there_are_several_subtasks() -> None:
    job, events = start()
    events.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count()).collect()
    assert edges(physical(job, 1)) == []
    assert edges(physical(job, 2)) == [("hash", ("k",))]


def test_several_keys_are_exchanged_by_in_their_order() -> None:
    job, events = start()
    events.key_by("note", "k").aggregate(n=sf.count()).collect()
    assert edges(physical(job, 2)) == [("hash", ("note", "k"))]


def test_a_combiner_goes_before_the_exchange_unless_late_records_are_read() -> None:
    job, events = start()
    results = events.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count())
    results.collect()
    assert "combine" in "".join(chains(physical(job, 2))[0])
    assert chains(physical(job, 2))[1] == ["window"]
    results.late.collect()
    assert "combine" not in "".join(kinds(physical(job, 2)))


def test_functions_that_follow_one_another_are_fused() -> None:
    job, events = start()
    events.map(dict).filter(bool).flat_map(lambda row: [row]).collect()
    assert kinds(physical(job)).count("functions") == 1


def test_functions_are_not_fused_over_a_second_reader() -> None:
    job, events = start()
    first = events.map(dict)
    first.collect()
    first.map(dict).collect()
    assert kinds(physical(job)).count("map") == 2


def test_functions_of_different_parallelism_are_not_fused() -> None:
    job, events = start()
    events.map(dict).map(dict).parallel(4).collect()
    plan = physical(job, 2)
    assert kinds(plan).count("map") == 2
    assert edges(plan) == [("rebalance", ())]
    assert [task.parallelism for task in plan.tasks] == [2, 4]


def test_functions_take_and_give_columns_themselves() -> None:
    job, events = start()
    events.map(dict, schema={"k": sf.String}).filter(col("k") == "a").collect()
    events.flat_map(lambda row: [row]).collect()
    assert "convert" not in kinds(physical(job))


def test_a_coroutine_is_at_the_head_of_a_task_of_its_own() -> None:
    async def same(row: Any) -> Any:
        return row

    job, events = start()
    events.map_async(same).collect()
    assert chains(physical(job))[1][0] == "map_async"


def test_what_is_pure_runs_where_the_data_is_read_and_no_further() -> None:
    job, events = start()
    events.filter(col("v") > 1).key_by("k").aggregate(n=sf.count()).collect()
    (task,) = physical(job).tasks
    assert [o.spec.pure for o in task.chain[: task.read_ahead]] == [True] * task.read_ahead
    assert [o.spec.kind for o in task.chain[task.read_ahead :]] == ["aggregate"]


@pytest.mark.parametrize(
    ("use", "columns"),
    [
        (lambda s: s.select("v"), ("ts", "v")),
        (lambda s: s.select(col("v") * 2), ("ts", "v")),
        (lambda s: s.filter(col("k") == "a").select("v"), ("k", "ts", "v")),
        (lambda s: s.with_columns(w=col("v") + 1).select("w"), ("ts", "v")),
        (lambda s: s.rename({"v": "w"}).select("w"), ("ts", "v")),
        (lambda s: s.drop("note", "k").select("v"), ("k", "ts", "v", "note")),
        (lambda s: s.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.sum("v")), ("k", "ts", "v")),
        (lambda s: s.key_by("k").aggregate(n=sf.count()), ("k", "ts")),
        (lambda s: s.filter(col("v") > 0), None),
        (lambda s: s.select(sf.col("^.*$")), None),
        (lambda s: s.map(dict), None),
    ],
)
def test_columns_that_nobody_reads_are_not_read(use: Any, columns: tuple[str, ...] | None) -> None:
    job, events = start()
    use(events).collect()
    read = physical(job).tasks[0].columns
    assert read == (None if columns is None or set(columns) == set(ROWS[0]) else columns)


def test_all_readers_count_for_what_is_read() -> None:
    job, events = start()
    events.select("v").collect()
    events.select("k").collect()
    assert physical(job).tasks[0].columns == ("k", "ts", "v")


def test_dead_letters_of_a_source_show_whole_records() -> None:
    job, events = start()
    events.on_error(sf.ConsoleSink()).select("v").collect()
    assert physical(job).tasks[0].columns is None


def test_more_subtasks_than_key_groups_are_refused() -> None:
    job, events = start()
    events.filter(col("v") > 0).parallel(9).collect()
    with pytest.raises(sf.JobDefinitionError, match="parallelism 9 is not between 1 and 8"):
        physical(job, max_parallelism=8)


def test_sinks_run_with_what_they_read() -> None:
    job, events = start()
    parts = events.split(large=col("v") > 1)
    parts["large"].collect()
    parts["rest"].collect()
    (task,) = physical(job).tasks
    assert [(sink.id, sink.input.output) for sink in task.sinks] == [
        ("write-1", "large"),
        ("write-2", "main"),
    ]
    assert [sink.id for sink in physical(job).sinks] == ["write-1", "write-2"]
