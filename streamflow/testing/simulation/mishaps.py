"""Mishaps of one worker of several: it is killed, lost with its machine, held up, or cut off.

Each happens when the processes of a job come to a point for a certain time, like crashes and interventions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

__all__ = ["MISHAPS", "Mishap", "What"]

What = Literal["killed", "lost", "frozen", "cut off", "mute", "deaf", "apart"]
MISHAPS: Final[tuple[What, ...]] = get_args(What)
_WORDS: Final[dict[What, str]] = {
    "killed": "is killed",
    "lost": "is lost with its machine, which nobody is told",
    "frozen": "stands still",
    "cut off": "and the coordinator are cut off from one another",
    "mute": "cannot reach the coordinator",
    "deaf": "is not reached by the coordinator",
    "apart": "and the next one are cut off from one another",
}


@dataclass(frozen=True, slots=True)
class Mishap:
    """A mishap of worker number `worker` when some process comes to `point` for the `time`-th time (from 1); it lasts
    for `seconds` of virtual time, unless the worker is gone for good.

    >>> print(Mishap("frozen", 1, "sent Inject", 2, seconds=6))
    worker 1 stands still for 6 s at sent Inject (time 2)
    """

    what: What
    worker: int
    point: str
    time: int
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.seconds:g} s" if self.seconds else ""
        return f"worker {self.worker} {_WORDS[self.what]}{lasts} at {self.point} (time {self.time})"
