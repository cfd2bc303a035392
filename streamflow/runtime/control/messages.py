"""The messages between the coordinator of a job and its workers: two closed unions, one `match` on each side.

Messages between the coordinator and one worker arrive in the order in which they were sent. A worker answers every
`Flush` with `Flushed` and every `SplitWanted` is answered with `SplitGranted`; no other message waits for an answer.
Inside one process they are handed over by a direct call, unencoded.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamflow.observe.registry import Counts
from streamflow.operators.contract.source import Position
from streamflow.runtime.checkpoints.snapshots import SubtaskPart
from streamflow.runtime.control.assignment import SplitState
from streamflow.runtime.control.epochs import Sealed

__all__ = [
    "Acknowledged",
    "EpochWanted",
    "Finished",
    "Flush",
    "Flushed",
    "FromCoordinator",
    "FromWorker",
    "GaveUp",
    "Hurry",
    "Inject",
    "Passed",
    "Raised",
    "Ready",
    "Settled",
    "Slowest",
    "SlowestOfAll",
    "SplitEnded",
    "SplitGranted",
    "SplitNews",
    "SplitWanted",
    "Start",
    "Started",
    "Stop",
]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """W→C: the worker's operators are restored."""


class Passed(msgspec.Struct, frozen=True, tag=True):
    """W→C: a subtask has passed the barrier of an epoch, and stores its part of the checkpoint."""

    subtask: str
    epoch: int


class Acknowledged(msgspec.Struct, frozen=True, tag=True):
    """W→C: a subtask has ended an epoch: its sealed output, its stored part (None without checkpoints), or the reason
    why there is none; the positions of the splits that it reads, by source, and the numbers of records counted."""

    subtask: str
    epoch: int
    sealed: Sealed
    part: SubtaskPart | None = None
    failure: Exception | None = None
    positions: tuple[str, Mapping[str, Position]] | None = None
    counts: Counts = {}


class Finished(msgspec.Struct, frozen=True, tag=True):
    """W→C: a subtask has come to its end; `passed` is the last epoch whose barrier it passed."""

    subtask: str
    sealed: Sealed
    passed: int


class EpochWanted(msgspec.Struct, frozen=True, tag=True):
    """W→C: a source has read its slice, or a sink holds much: the epoch is to end."""


class Flushed(msgspec.Struct, frozen=True, tag=True):
    """W→C: what had been written to the worker's state before a `Flush` is on its disk."""


class GaveUp(msgspec.Struct, frozen=True, tag=True):
    """W→C: a job that stops leaves so many records out, for functions that are slow."""

    records: int


class Raised(msgspec.Struct, frozen=True, tag=True):
    """W→C: a subtask has failed."""

    error: BaseException


class SplitWanted(msgspec.Struct, frozen=True, tag=True):
    """W→C: a subtask of a source that fetches from so many splits has room for another one."""

    source: str
    subtask: int
    fetching: int


class Started(msgspec.Struct, frozen=True, tag=True):
    """W→C: a subtask of a source has its first split, or has found that there is none for it."""

    source: str


class SplitEnded(msgspec.Struct, frozen=True, tag=True):
    """W→C: a split has been read to its end."""

    source: str
    split: str


class Slowest(msgspec.Struct, frozen=True, tag=True):
    """W→C: the smallest watermark among the active splits of a subtask of a source; None if there is none."""

    source: str
    subtask: int
    watermark: int | None


FromWorker = (
    Ready
    | Passed
    | Acknowledged
    | Finished
    | EpochWanted
    | Flushed
    | GaveUp
    | Raised
    | SplitWanted
    | Started
    | SplitEnded
    | Slowest
)


class Start(msgspec.Struct, frozen=True, tag=True):
    """C→W: everything is as it was in the checkpoint; the subtasks run. `room`: see `Settled`."""

    room: bool


class Flush(msgspec.Struct, frozen=True, tag=True):
    """C→W: a barrier comes soon: what is written to disk now need not be written at the barrier."""


class Inject(msgspec.Struct, frozen=True, tag=True):
    """C→W: an epoch ends: its barrier starts at the sources. After the `last` one the sources hand on nothing more."""

    epoch: int
    last: bool


class Settled(msgspec.Struct, frozen=True, tag=True):
    """C→W: the epoch in flight is stored and committed, or has failed. `room`: whether writers may seal more output,
    or too much of it waits to be stored and committed."""

    room: bool


class Hurry(msgspec.Struct, frozen=True, tag=True):
    """C→W: the job stops, and does not wait for slow functions."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """C→W: the sources read no more; with `drain` what is open counts as complete."""

    drain: bool


class SplitNews(msgspec.Struct, frozen=True, tag=True):
    """C→W: what the subtasks of a source have to know of its splits: whether any have been looked for yet
    (`discovered`), whether one that nobody reads could send events of any time (`holds_watermark`), whether there are
    no more (`exhausted`), and whether every subtask has said `Started` (`all_started`)."""

    source: str
    discovered: bool
    holds_watermark: bool
    exhausted: bool
    all_started: bool


class SplitGranted(msgspec.Struct, frozen=True, tag=True):
    """C→W: the answer to `SplitWanted`: a split, or None if there is none now; with the news as it is afterwards."""

    source: str
    subtask: int
    state: SplitState | None
    news: SplitNews


class SlowestOfAll(msgspec.Struct, frozen=True, tag=True):
    """C→W: the smallest watermark that subtasks of a source and of those that it meets have reported in `Slowest`; None
    if there is none."""

    source: str
    watermark: int | None


FromCoordinator = Start | Flush | Inject | Settled | Hurry | Stop | SplitNews | SplitGranted | SlowestOfAll
