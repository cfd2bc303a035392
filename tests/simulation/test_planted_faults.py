"""The simulator has to find what is wrong: faults of the kind that matter are planted, each is found in few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamflow.runtime import task
from streamflow.runtime.alignment import Aligned, Alignment, Block
from streamflow.runtime.worker import Worker
from streamflow.testing.simulation.campaign import Campaign
from streamflow.testing.simulation.disk import SimDisk
from tests.simulation.jobs import JOBS

MOST = 500


class NeverBlocks(Alignment):
    """A barrier's channel is read on while the others' barriers are awaited."""

    def barrier(self, channel: int, epoch: int) -> Block | Aligned:
        decision = super().barrier(channel, epoch)
        return None if isinstance(decision, Block) else decision  # type: ignore[return-value]


def no_alignment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(task, "Alignment", NeverBlocks)


def commit_before_publication(patch: pytest.MonkeyPatch) -> None:
    """Output becomes visible, and then the checkpoint that it belongs to is published."""
    deal_with = Worker._deal_with

    async def hastily(worker: Worker, complete: Any) -> Any:
        await worker._parts.committing.commit(complete.epoch, complete.sealed)
        return await deal_with(worker, complete)  # commits once more, which changes nothing

    patch.setattr(Worker, "_deal_with", hastily)


def no_sync(patch: pytest.MonkeyPatch) -> None:
    """Files are never synced: what has its name on the disk may not have its content."""
    patch.setattr(SimDisk, "sync", _nothing)


def no_folder_sync(patch: pytest.MonkeyPatch) -> None:
    """Folders are never synced: what was published may be gone."""
    patch.setattr(SimDisk, "sync_folder", _nothing)


def _nothing(disk: SimDisk, path: Any) -> None:
    """A skipped fsync."""


def found(campaign: Campaign) -> int | None:
    """The first seed that fails."""
    for outcome in campaign.run(range(MOST), shrinking=False):
        if outcome.failure is not None:
            return outcome.schedule.seed
    return None


PLANTED: list[Callable[[pytest.MonkeyPatch], None]] = [
    no_alignment,
    commit_before_publication,
    no_sync,
    no_folder_sync,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant, monkeypatch):
    campaign = Campaign(JOBS["tumbling"])
    plant(monkeypatch)
    assert found(campaign) is not None
