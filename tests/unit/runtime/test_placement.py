"""Which worker runs which subtask."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import ConfigError
from streamflow.graph.logical import Input
from streamflow.graph.physical import ExchangeKind, PhysicalEdge, PhysicalPlan, PhysicalTask
from streamflow.runtime.control.placement import Placement


def plan(*widths: int, exchange: ExchangeKind = ExchangeKind.HASH) -> PhysicalPlan:
    """Tasks of these widths, one behind the other."""
    tasks = tuple(PhysicalTask(f"task-{number}", width, ()) for number, width in enumerate(widths))
    edges = tuple(
        PhysicalEdge(upper.id, Input(upper.id), lower.id, 0, exchange) for upper, lower in pairwise(tasks)
    )
    return PhysicalPlan("job", tasks, edges, max_parallelism=4_096)


widths = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@given(widths, st.integers(1, 12))
def test_every_subtask_is_on_one_worker(widths: list[int], workers: int) -> None:
    workers = min(workers, max(widths))
    placement = Placement(plan(*widths), workers)
    placed = [subtask for worker in range(workers) for subtask in placement.subtasks(worker)]
    assert sorted(placed) == sorted(
        (f"task-{task}", number) for task, width in enumerate(widths) for number in range(width)
    )
    for worker in range(workers):
        assert all(placement.worker_of(number) == worker for _, number in placement.subtasks(worker))
        assert placement.subtasks(worker)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_channels_between_workers_are_counted(upper: int, lower: int, workers: int) -> None:
    workers = min(workers, max(upper, lower))
    placement = Placement(plan(upper, lower), workers)
    for worker in range(workers):
        between = [
            (i, j)
            for i in range(upper)
            for j in range(lower)
            if worker in (placement.worker_of(i), placement.worker_of(j))
            and placement.worker_of(i) != placement.worker_of(j)
        ]
        assert placement.channels(worker) == len(between)


def test_what_is_forwarded_stays_inside_a_process() -> None:
    assert Placement(plan(8, 8, exchange=ExchangeKind.FORWARD), 4).channels(1) == 0


def test_more_workers_than_subtasks_and_more_channels_than_can_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 processes are more than any operator has subtasks"):
        Placement(plan(2, 1), 3)
    with pytest.raises(ConfigError, match="a process would have 11022 channels to others"):
        Placement(plan(512, 512), 50)
