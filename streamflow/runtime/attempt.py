"""Attempts at running a job: their contract, and one in this process, a coordinator and a worker joined by direct
calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from streamflow.errors import StreamflowError
from streamflow.runtime.blame import unforeseen
from streamflow.runtime.checkpoints.taking import Checkpoints
from streamflow.runtime.coordinator import Coordinator
from streamflow.runtime.deployment import Deployment
from streamflow.runtime.figures import Figures
from streamflow.runtime.worker import Worker
from streamflow.state.checkpoints.manifest import Manifest

__all__ = ["Attempt", "GoingOn", "InlineAttempt"]


@dataclass(frozen=True, slots=True)
class GoingOn:
    """The facts from which workers elsewhere begin: the checkpoint to go on from, the place where it is, and the folder
    for live state on this machine; each None if there is none."""

    manifest: Manifest | None
    place: str | None
    work: Path | None


class Attempt(Protocol):
    """One attempt; `build` and `run` once."""

    coordinator: Coordinator

    def figures(self, *, holds: bool) -> Figures:
        """The figures of all workers as they are known: see `Worker.figures`."""
        ...

    async def build(self) -> None:
        """Makes the parts; leaves nothing behind if that fails."""
        ...

    async def run(self, started: Callable[[], None]) -> None:
        """Runs the job to its end; raises the error of the first part that fails. `started` is called once everything
        is as it was in the checkpoint."""
        ...


class InlineAttempt:
    """A coordinator and its worker in this process."""

    def __init__(self, deployment: Deployment, checkpoints: Checkpoints | None, going_on: GoingOn) -> None:
        self.coordinator = Coordinator(deployment, checkpoints)
        keep = None if checkpoints is None else checkpoints.keep
        self.worker = Worker(deployment, tell=self.coordinator.hear, keep=keep)

    def figures(self, *, holds: bool) -> Figures:
        """The worker's present figures: see `Worker.figures`."""
        return self.worker.figures(holds=holds)

    async def build(self) -> None:
        """Makes the subtasks and joins the two; closes those that there are if one cannot be made."""
        try:
            await self.worker.build()
        except BaseException:
            await self.worker.close()
            await self.coordinator.close()
            await self.worker.release()
            raise
        self.coordinator.join(self.worker.hear)

    async def run(self, started: Callable[[], None]) -> None:
        """Runs the job to its end; raises the error of the first part that fails. `started` is called once everything
        is as it was in the checkpoint."""
        working = asyncio.create_task(self.worker.run())
        try:
            await self.coordinator.run(started)
        except StreamflowError:
            raise
        except Exception as error:
            raise unforeseen(error) from error
        finally:
            unclosed = await self._close(working)
        if unclosed is not None:
            raise unclosed

    async def _close(self, working: asyncio.Task[None]) -> StreamflowError | None:
        """Ends everything; gives the first error of an operator that does not let itself be closed."""
        working.cancel()
        self.worker.cancel()
        self.coordinator.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await asyncio.gather(self.worker.ended(), self.coordinator.ended())
        unclosed = await self.worker.close()
        await self.coordinator.close()
        await self.worker.release()
        return unclosed
