"""Interventions of people and machines while a job runs: asking for a checkpoint, rescaling it, stopping it, removing
its checkpoints.

Each happens when the process comes to a point, like crashes: a named one, a disk call, any step of its loop. A
request has to be answered in time, or the job counts as asleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from streamflow.errors import StreamflowError
from streamflow.runners.local import LocalJob
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.loop import SimLoop
from streamflow.testing.simulation.points import ANY_STEP

__all__ = ["Intervention", "Interventions"]

_PATIENCE: Final = 20.0
"""Seconds of virtual time within which a checkpoint is taken, and a job stops or is rescaled."""
_MOST_PARALLEL: Final = 4
_WORDS: Final = {
    "checkpoint": "is asked for a checkpoint",
    "rescale": "is rescaled",
    "stop": "is stopped",
    "vanish": "its checkpoints vanish",
}


@dataclass(frozen=True, slots=True)
class Intervention:
    """An intervention when the process comes to `point` for the `time`-th time (from 1).

    >>> print(Intervention("checkpoint", "sink.writing", 2))
    is asked for a checkpoint at sink.writing (time 2)
    """

    what: Literal["checkpoint", "rescale", "stop", "vanish"]
    point: str
    time: int

    def __str__(self) -> str:
        return f"{_WORDS[self.what]} at {self.point} (time {self.time})"


class Interventions:
    """The interventions of one process; those due before the job has been started are made then."""

    def __init__(self, planned: Sequence[Intervention], loop: SimLoop, place: Path) -> None:
        self.disk: SimDisk | None = None
        """The disk of the process."""
        self.complaints: list[str] = []
        """Requests that were not answered in time."""
        self.vanished = False
        self._planned = {(each.point, each.time): each for each in planned}
        self._loop = loop
        self._place = place
        self._handle: LocalJob | None = None
        self._early: list[Intervention] = []
        self._asking: list[asyncio.Task[None]] = []
        self._over = False

    def __bool__(self) -> bool:
        return bool(self._planned)

    def start(self, handle: LocalJob) -> None:
        """Takes the started job."""
        self._handle = handle
        early, self._early = self._early, []
        for each in early:
            self._begin(each)

    def come(self, point: str, time: int) -> None:
        """Makes the interventions due at this point, reached for the `time`-th time."""
        intervention = self._planned.get((point, time))
        if intervention is not None:
            self._begin(intervention)

    def step(self, number: int) -> None:
        """Makes the interventions due before this step of the loop, which may ask twice for a step that is held up."""
        intervention = self._planned.pop((ANY_STEP, number), None)
        if intervention is not None:
            self._begin(intervention)

    async def answered(self) -> None:
        """Waits until all requests have been answered; makes no further ones."""
        while asked := [each for each in self._asking if not each.done()]:
            await asyncio.wait(asked)
        self._over = True

    def _begin(self, intervention: Intervention) -> None:
        if intervention.what == "vanish":
            assert self.disk is not None
            self.vanished = True
            self.disk.vanish(self._place)
        elif self._handle is None:
            self._early.append(intervention)
        elif not self._over:
            self._asking.append(self._loop.create_task(self._ask(self._handle, intervention)))

    async def _ask(self, handle: LocalJob, intervention: Intervention) -> None:
        began = self._loop.now
        try:
            await _asked(handle, intervention)
        except StreamflowError:
            # A checkpoint may fail, a job may end before it is rescaled, and the job itself reports its failure.
            return
        except Exception as error:  # noqa: BLE001 — told with the life that led to it
            self.complaints.append(f"the job {intervention}: {type(error).__name__}: {error}")
        finally:
            seconds = (self._loop.now - began) / 1e6
            if seconds > _PATIENCE:
                self.complaints.append(f"the job {intervention}, and that took {seconds:.0f} s")


def _asked(handle: LocalJob, intervention: Intervention) -> Coroutine[Any, Any, Any]:
    match intervention.what:
        case "checkpoint":
            return handle.checkpoint()
        case "rescale":
            return handle.rescale(1 + intervention.time % _MOST_PARALLEL)
        case _:
            return handle.stop()
