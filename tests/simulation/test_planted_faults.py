"""The simulator has to find what is wrong: faults of the kind that matter are planted, each is found in few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from streamflow.operators.aggregates.partials import LAST
from streamflow.operators.windows import sessions
from streamflow.operators.windows.emission import FiredPanes
from streamflow.operators.windows.sessions import SessionWindows
from streamflow.runtime.control.alignment import Aligned, Alignment, Block
from streamflow.runtime.coordinator import Coordinator
from streamflow.runtime.exchange import routes as exchange
from streamflow.runtime.task import chain
from streamflow.runtime.task import loop as task
from streamflow.runtime.waiting import Signal
from streamflow.testing.simulation.campaign import Campaign
from streamflow.testing.simulation.disk import SimDisk
from tests.simulation.jobs import campaign

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
    deal_with = Coordinator._deal_with

    async def hastily(coordinator: Coordinator, complete: Any) -> Any:
        await coordinator._committing.commit(complete.epoch, complete.sealed)
        return await deal_with(coordinator, complete)  # commits once more, which changes nothing

    patch.setattr(Coordinator, "_deal_with", hastily)


def no_sync(patch: pytest.MonkeyPatch) -> None:
    """Files are never synced: what has its name on the disk may not have its content."""
    patch.setattr(SimDisk, "sync", _nothing)


def no_folder_sync(patch: pytest.MonkeyPatch) -> None:
    """Folders are never synced: what was published may be gone."""
    patch.setattr(SimDisk, "sync_folder", _nothing)


def _nothing(self: Any, given: Any) -> None:
    """A skipped call."""


def sleeps_through_news(patch: pytest.MonkeyPatch) -> None:
    """News that comes while nobody waits is forgotten: a source asked for a checkpoint while its timers put something
    out slept on."""

    def wake(signal: Signal) -> None:
        if signal._waiting is not None and not signal._waiting.done():
            signal._waiting.set_result(None)

    patch.setattr(Signal, "set", wake)


def shared_objects(patch: pytest.MonkeyPatch) -> None:
    """A fault: one branch's changes to a Python object are visible to all."""
    for module in (chain, exchange):
        patch.setattr(module, "copied_batch", lambda batch: batch)


def forgotten_fragments(patch: pytest.MonkeyPatch) -> None:
    """A fault: a fired part of a session is forgotten by its own end, though another fragment continues it."""

    def forget(operator: SessionWindows, bound: int) -> None:
        over = pl.col(sessions._FIRED) & (pl.col(LAST) <= bound)
        for frame in operator._open:
            operator._parts.writer.forget(frame.filter(over).select(operator._leading))
        operator._keep([frame.filter(~over) for frame in operator._open])

    patch.setattr(SessionWindows, "_forget", forget)


def nothing_said(patch: pytest.MonkeyPatch) -> None:
    """A fault: a restore forgets what windows have put out, so that nothing takes it back."""
    patch.setattr(FiredPanes, "restore", _nothing)


def found(campaign: Campaign, first: int = 0) -> int | None:
    """The first seed that fails, from `first` on."""
    for outcome in campaign.run(range(first, MOST), shrinking=False):
        if outcome.failure is not None:
            return outcome.schedule.seed
    return None


PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (no_alignment, "union"),
    (commit_before_publication, "tumbling"),
    (no_sync, "tumbling"),
    (no_folder_sync, "tumbling"),
    (sleeps_through_news, "reminders"),
    (shared_objects, "branches"),
    (forgotten_fragments, "late-sessions"),
    (nothing_said, "early-panes"),
]
"""Each fault, and a job that it is planted in."""


FIRST = {"late-sessions": 30}
"""Seeds before these find nothing, and take long; `make reliability` begins with 0, and has the last fault, too."""


@pytest.mark.parametrize(("plant", "job"), PLANTED[:-1], ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_found(plant, job, monkeypatch):
    planted = campaign(job)
    plant(monkeypatch)
    assert found(planted, FIRST.get(job, 0)) is not None
