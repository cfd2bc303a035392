"""Faults between processes, which would pass in one, are planted: the simulator finds each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streamflow.runtime.checkpoints.worker_checkpoints import WorkerCheckpoints
from streamflow.runtime.control.membership import Membership
from streamflow.runtime.control.messages import Start
from streamflow.runtime.control.split_grants import SplitGrants
from streamflow.runtime.coordinator import Coordinator
from streamflow.testing.simulation.campaign import Campaign
from tests.simulation.jobs import on_workers

MOST = 500
WHILE = 0.1
"""Seconds by which a step that is late is late."""


def every_attempt_counts(patch: pytest.MonkeyPatch) -> None:
    """Words of an attempt that is over, or of a process that was given up, count."""
    patch.setattr(Membership, "heard", lambda *_: True)


def grants_behind_the_barrier(patch: pytest.MonkeyPatch) -> None:
    """A split is granted while the barrier is on its way, when the coordinator's part of the checkpoint has it, too."""
    patch.setattr(SplitGrants, "inject", lambda *_: None)


def acknowledged_before_it_lasts(patch: pytest.MonkeyPatch) -> None:
    """A worker sees to it that a part survives a crash when it stores the next one: it has acknowledged it by then."""

    async def keep(checkpoints: Any, epoch: int, snapshot: Any) -> Any:
        writer = await asyncio.shield(checkpoints._writer_of(epoch))
        await checkpoints._ports.uploads(checkpoints._store.settle)
        return await snapshot.store(writer, checkpoints._ports.uploads)

    patch.setattr(WorkerCheckpoints, "keep", keep)


def sweeps_after_the_start(patch: pytest.MonkeyPatch) -> None:
    """The leftovers of an earlier attempt are removed when the new one runs already."""
    begin = Coordinator._begin_output

    async def later(coordinator: Coordinator) -> None:
        coordinator._tell(Start(room=True))
        await coordinator._ports.clock.sleep(WHILE)
        await begin(coordinator)

    patch.setattr(Coordinator, "_begin_output", later)


PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (every_attempt_counts, "totals"),
    (grants_behind_the_barrier, "totals"),
    (acknowledged_before_it_lasts, "totals"),
    (sweeps_after_the_start, "totals"),
]
"""Each fault, and a job that it is planted in."""


def found(campaign: Campaign, first: int = 0) -> int | None:
    """The first seed that fails, from `first` on."""
    for outcome in campaign.run(range(first, MOST), shrinking=False):
        if outcome.failure is not None:
            return outcome.schedule.seed
    return None


FIRST = {"every_attempt_counts": 9, "grants_behind_the_barrier": 20}
"""Seeds before these find nothing; `make reliability` begins with 0."""


@pytest.mark.parametrize(("plant", "job"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_between_processes_is_found(plant, job, monkeypatch):
    planted = on_workers(job)
    plant(monkeypatch)
    assert found(planted, FIRST.get(plant.__name__, 8)) is not None
