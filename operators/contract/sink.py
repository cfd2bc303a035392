"""The sink contract: a writer per subtask and one committer, the halves of a two-phase sink.

Within an epoch the writer takes batches and makes nothing visible. At the barrier it seals what it wrote and returns
a committable; when the epoch is complete everywhere, the committer makes all committables of the epoch visible. A
sink without two phases (console) writes at once and returns none: its delivery is at least once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.disk import Disk, LocalDisk
from streamflow.observe.registry import NO_METRICS, OperatorMetrics
from streamflow.time.clock import Clock, Randomness

__all__ = ["Committable", "Committer", "Delivery", "Sink", "SinkContext", "SinkWriter"]

Committable = Mapping[str, Any]
"""Sealed output that is not yet visible: plain values for msgpack, opaque to the runtime."""

Delivery = Literal["exactly_once", "at_least_once"]


def _nothing(point: str) -> None:
    """Does nothing; stands in if no test watches the points at which a crash would matter."""


def _at_leisure() -> None:
    """Does nothing: a runtime without epochs cannot be asked to end one."""


async def _at_once() -> None:
    """Returns at once: a runtime without epochs commits none."""


@dataclass(frozen=True, slots=True)
class SinkContext:
    """The context of a writer or committer.

    `job` names the job that writes the output. `restored` is the epoch of the checkpoint that the run continues from;
    None if the run starts over. `from_savepoint`: `restored` is the epoch of a savepoint, which stands by itself:
    output that was visible before may have been moved elsewhere. `checkpointed`: the run takes checkpoints, so that a
    later run may have to tell its output from others'. `allow_duplicates`: output ahead of the checkpoint that cannot
    be taken back is no error. `from_start`: the run is meant to start with nothing, although the job may have put out
    everything before. `reach` is called with the name of each step at which a crash would matter.

    `line` names a line of runs, each of which continues from a checkpoint of the one before; a run that starts over
    starts a new line. `first_epoch` is the first that this run will end, `restored_parent` the epoch that was
    committed before `restored`, `noted` the committer's own note in that checkpoint (`Committer.note`).

    `apart`: writers and committer are in different processes, so that committables are all that goes from one to the
    other. `type` is the type of the sink's input; None where the runtime does not say.

    A writer that holds much asks for the epoch to be ended (`end_epoch`), and if even that does not help, because the
    epoch ended last is still being stored or committed, awaits that (`settled`) before it takes more. A writer whose
    sealed output stays in memory awaits `room` before it takes anything: while epochs cannot be stored, output adds
    up.
    """

    operator_id: str
    subtask: int
    parallelism: int
    clock: Clock
    random: Randomness
    run_blocking: Callable[..., Any]
    """Runs a blocking call on the I/O threads: `await run_blocking(fn, *args)`. The call writes: a cancelled caller
    waits for its end, so that nothing is written any more when the job starts again."""
    disk: Disk = field(default_factory=LocalDisk)
    """The disk for everything that has to outlive a crash."""
    job: str = "job"
    restored: int | None = None
    from_savepoint: bool = False
    checkpointed: bool = False
    allow_duplicates: bool = False
    from_start: bool = True
    reach: Callable[[str], None] = _nothing
    line: str = "line"
    first_epoch: int = 1
    restored_parent: int | None = None
    noted: Mapping[str, Any] | None = None
    apart: bool = False
    type: StreamType | None = None
    end_epoch: Callable[[], None] = _at_leisure
    settled: Callable[[], Awaitable[None]] = _at_once
    room: Callable[[], Awaitable[None]] = _at_once
    metrics: OperatorMetrics = NO_METRICS


class SinkWriter(Protocol):
    """The writer of one subtask's output."""

    async def write(self, batch: AnyBatch) -> None: ...

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        """Seals the output written in this epoch; called at each barrier and at the end of input."""
        ...

    async def close(self) -> None:
        """Releases resources; output that was not prepared is discarded. Called once, also after a failure."""
        ...


class Committer(ABC):
    """The committer, which makes sealed output visible; one per sink, or one for several sinks committed together."""

    async def begin(self) -> None:
        """Begins a run that starts over, not from a checkpoint. Called once, before anything is committed."""

    @abstractmethod
    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        """Makes output visible; must be safe to repeat after a crash with the same arguments.

        Output sealed in an epoch that could not be completed comes with a later epoch.
        """

    @abstractmethod
    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        """Begins a run that continues from the checkpoint of `epoch`.

        Makes the output that the checkpoint had sealed visible, as `commit` does, and takes back what later epochs
        have made visible. Sealed output that a later epoch is to commit (`carried`: a batch job commits at its end)
        is kept as it is; other leftovers of dead runs are removed. Raises SinkError if output cannot be taken back,
        unless duplicates are allowed. Called once, before anything is written.
        """

    def note(self) -> Mapping[str, Any] | None:
        """A note to be returned after a restore of the checkpoint that is being taken (`SinkContext.noted`), as plain
        values for msgpack. Nothing that this checkpoint seals has been committed yet."""
        return None

    async def close(self) -> None:
        """Releases resources. Called once, also after a failure."""


class Sink(ABC):
    """A sink as immutable data."""

    delivery: Delivery = "at_least_once"
    commits: ClassVar[Literal["as_told", "epoch"]] = "as_told"
    """"epoch" if output becomes visible with each epoch also in a batch job, which otherwise commits at its end."""

    @property
    def committed_with(self) -> Hashable | None:
        """A value that is equal for sinks with one committer, made by any of them, whose output becomes visible in
        one step. None: a committer of its own."""
        return None

    @property
    def writes_to(self) -> str | None:
        """The folder or file of this machine that the sink writes; None if it writes none, or somewhere else."""
        return None

    def check(self, input_type: StreamType) -> None:
        """Raises JobDefinitionError if the stream cannot be written here (called when the job is built)."""

    def row_key(self, input_type: StreamType) -> tuple[str, ...] | None:
        """The columns of which each value has one row in the output, in which a changing result's new row replaces
        the one before. None: rows are not replaced, or it is not known by what."""
        return None

    def place(self, input_type: StreamType) -> tuple[Hashable, Hashable] | None:
        """The place of the output, and facts that all sinks on it must share: sinks of one job on the same place with
        different facts are refused. None: other sinks do not matter."""
        return None

    @abstractmethod
    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter: ...

    def committer(self, ctx: SinkContext) -> Committer | None:
        """The committer; None for a sink without a second phase."""
        return None

    def describe(self) -> str:
        """One short line for plans."""
        return type(self).__name__
