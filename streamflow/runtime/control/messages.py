"""The messages between the coordinator of a job and its workers: two closed unions, one `match` on each side.

Messages between the coordinator and one worker arrive in the order in which they were sent. A worker answers every
`Flush` with `Flushed` and `Cancel` with `LetGo`, and every `SplitWanted` is answered with `SplitGranted`; no other
message waits for an answer. Inside one process they are handed over by a direct call, unencoded.

Some messages are there for workers that are processes of their own. Between processes each message is `Told` of an
attempt: one of another attempt than the present one does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from streamflow.errors import StreamflowError
from streamflow.observe.changes import Changes
from streamflow.observe.registry import Counts
from streamflow.operators.contract.source import Position
from streamflow.runtime.checkpoints.snapshots import SubtaskPart
from streamflow.runtime.control.assignment import SplitState
from streamflow.runtime.control.epochs import Sealed
from streamflow.runtime.figures import Figures
from streamflow.state.checkpoints.probe import Probe

__all__ = [
    "Acknowledged",
    "Alive",
    "Beat",
    "Cancel",
    "Deploy",
    "EpochWanted",
    "Finished",
    "Flush",
    "Flushed",
    "FromCoordinator",
    "FromProcess",
    "FromWorker",
    "GaveUp",
    "Hello",
    "Hurry",
    "Inject",
    "Leave",
    "LetGo",
    "Logged",
    "Passed",
    "PeerLost",
    "Pulse",
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
    "ToProcess",
    "Told",
]


Message = TypeVar("Message")


class Told(msgspec.Struct, Generic[Message], frozen=True):
    """A message of an attempt, by the attempt's number; 0: the message is of none."""

    attempt: int
    message: Message


class Hello(msgspec.Struct, frozen=True, tag=True):
    """W→C: a process is up, in that place and with that number among the processes of the place; the first message.
    `address` is the address at which other workers reach it, `versions` are those of what it runs on, by name."""

    place: int
    process: int
    pid: int
    host: str
    address: str
    versions: dict[str, str]


class Alive(msgspec.Struct, frozen=True, tag=True):
    """W→C: the process lives, whatever its event loop does."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """W→C: the worker's operators are restored. `probe`: the answer to that in `Deploy`."""

    probe: Probe | None = None


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


class LetGo(msgspec.Struct, frozen=True, tag=True):
    """W→C: the attempt is closed here, nothing of it is being written any more. `unclosed`: the first error of an
    operator that did not let itself be closed."""

    unclosed: StreamflowError | None = None


class Beat(msgspec.Struct, frozen=True, tag=True):
    """W→C: the worker's present figures, and the changes of its metrics since the last time."""

    figures: Figures
    metrics: Changes


class PeerLost(msgspec.Struct, frozen=True, tag=True):
    """W→C: a channel's connection to another worker broke, by the number of its edge in the plan and its subtasks."""

    edge: int
    upper: int
    lower: int
    why: str


class Logged(msgspec.Struct, frozen=True, tag=True):
    """W→C: an event to be logged; `level` and `logger` as in `logging`, `facts` are those of `told`, `time` is in
    seconds since 1970."""

    level: int
    logger: str
    message: str
    facts: dict[str, Any]
    time: float


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
"""The messages of a worker to its coordinator."""

FromProcess = FromWorker | Hello | Alive | LetGo | Beat | PeerLost | Logged
"""The messages of a worker that is a process of its own."""


class Deploy(msgspec.Struct, frozen=True, tag=True):
    """C→W: an attempt begins, on so many `workers`, of which the hearer is number `worker`. `addresses` are those of
    all of them.

    `settings` by name, without secrets; `run`, `first_epoch` and `checkpointed` as in a `Deployment`. `manifest` is the
    encoded manifest of the checkpoint to go on from, which is in `restore_place`. `work` is a folder for live state on
    this host. `plan` is the digest that the hearer's own plan must have. `probe` has to be found in the place of the
    checkpoints, and answered.
    """

    workers: int
    worker: int
    addresses: list[str]
    settings: dict[str, Any]
    run: str
    first_epoch: int
    checkpointed: bool
    manifest: bytes | None
    restore_place: str | None
    work: str | None
    plan: str
    probe: Probe | None = None


class Start(msgspec.Struct, frozen=True, tag=True):
    """C→W: everything is as it was in the checkpoint; the subtasks run. `room`: see `Settled`."""

    room: bool


class Flush(msgspec.Struct, frozen=True, tag=True):
    """C→W: a barrier comes soon: what is written to disk now need not be written at the barrier."""


class Inject(msgspec.Struct, frozen=True, tag=True):
    """C→W: an epoch ends: its barrier starts at the sources. After the `last` one the sources hand on nothing more.
    `generation` and `link` are those of the checkpoint's writer."""

    epoch: int
    last: bool
    generation: int = 0
    link: bool = False


class Settled(msgspec.Struct, frozen=True, tag=True):
    """C→W: the epoch in flight is stored and committed, or has failed. `room`: whether writers may seal more output,
    or too much of it waits to be stored and committed. `published`: there is a checkpoint of it."""

    room: bool
    published: bool = False


class Hurry(msgspec.Struct, frozen=True, tag=True):
    """C→W: the job stops, and does not wait for slow functions."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """C→W: the sources read no more; with `drain` what is open counts as complete."""

    drain: bool


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """C→W: the attempt is over: end it, and say `LetGo`."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """C→W: the job is over: the process ends."""


class Pulse(msgspec.Struct, frozen=True, tag=True):
    """C→W: the coordinator lives."""


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
"""The messages of a coordinator to a worker."""

ToProcess = FromCoordinator | Deploy | Cancel | Leave | Pulse
"""The messages to a worker that is a process of its own."""
