"""`reduce` over objects: what is said of it is said of the operator that reduces and keeps the state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(row: Any) -> datetime:
    return START + timedelta(seconds=row["s"])


def key(row: Any) -> str:
    return row["k"]


def summed(before: Any, new: Any) -> Any:
    return {**new, "v": before["v"] + new["v"]}


def reduced(*, windowed: bool, rows: list[Any] | None = None) -> tuple[sf.Job, Any]:
    job = sf.Job("reduced")
    source = sf.MemorySource(rows or [{"k": "a", "s": 0, "v": 1}], schema=sf.OBJECTS)
    keyed = job.read(source, event_time=at).key_by(key)
    return job, keyed.window(sf.tumbling("1m")).reduce(summed) if windowed else keyed.reduce(summed)


def nodes(job: sf.Job) -> dict[str, str]:
    return {node.id: getattr(getattr(node, "spec", None), "kind", "") for node in job.graph.nodes}


@pytest.mark.parametrize(("windowed", "kind"), [(False, "aggregate"), (True, "window")])
def test_its_name_and_its_parallelism_are_those_of_the_operator_with_the_state(
    windowed: bool, kind: str
) -> None:
    job, results = reduced(windowed=windowed)
    results.named("totals").parallel(3).collect()
    kinds = nodes(job)
    assert kinds["totals"] == kind
    assert f"{kind}-1" not in kinds
    [total] = [each for each in job.graph.nodes if each.id == "totals"]
    assert total.parallelism == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("windowed", [False, True])
def test_a_long_name_is_as_good(windowed: bool) -> None:
    job, results = reduced(windowed=windowed)
    results.named("t" * 63).collect()
    assert "t" * 63 in nodes(job)
    job.run()


def test_its_state_is_found_by_that_name() -> None:
    job, results = reduced(windowed=False)
    results.named("totals").collect()
    with TestJob(job) as t:
        t.source().push([{"k": "a", "s": 0, "v": 1}])
        t.checkpoint().crash().restore(parallelism=2)
        t.source().push([{"k": "a", "s": 1, "v": 2}])
        [*_, last] = t.output().rows()
        assert (last["key"], last["value"]["v"]) == ("a", 3)


@pytest.mark.parametrize("windowed", [False, True])
def test_its_policy_is_that_of_the_records_it_cannot_keep_and_of_their_keys(windowed: bool) -> None:
    rows = [
        {"k": "a", "s": 0, "v": 1},
        {"k": "a", "s": 1, "v": {1, 2}},
        {"s": 2, "v": 1},
        {"k": "a", "s": 3, "v": 4},
    ]
    job, results = reduced(windowed=windowed, rows=rows)
    totals = results.named("totals").on_error("skip").collect()
    result = job.run(mode="batch")
    assert [row["value"]["v"] for row in totals.rows()] == [5]
    assert result.errors == 2


@pytest.mark.parametrize("windowed", [False, True])
def test_an_error_of_the_function_itself_says_that_no_policy_could_tell_which_record_is_bad(
    windowed: bool,
) -> None:
    rows = [{"k": "a", "s": 0, "v": 1}, {"k": "a", "s": 1, "v": "x"}]
    job, results = reduced(windowed=windowed, rows=rows)
    results.named("totals").on_error("skip").collect()
    with pytest.raises(sf.StreamflowError, match=r"operator totals.*summed raised TypeError") as raised:
        job.run(mode="batch")
    assert "filter or map them before" in str(raised.value)


def test_late_objects_of_a_reduced_window_come_whole() -> None:
    job = sf.Job("late")
    source = sf.MemorySource([{"k": "a", "s": 0, "v": 1}], schema=sf.OBJECTS)
    windows = job.read(source, event_time=at).key_by(key).window(sf.tumbling("10s")).reduce(summed)
    late: sf.Collected = windows.late.collect()  # type: ignore[attr-defined]
    windows.collect()
    with TestJob(job) as t:
        t.source().push([{"k": "a", "s": 0, "v": 1}]).advance_watermark(START + timedelta(seconds=20))
        t.source().push([{"k": "a", "s": 5, "v": 2}])
        assert t.output(late).rows() == [{"k": "a", "s": 5, "v": 2}]
