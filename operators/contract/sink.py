"""The sink contract: a writer per subtask and one committer, the halves of a two-phase sink.

Within an epoch the writer takes batches and makes nothing visible. At the barrier it seals what it wrote and hands out
a committable; when the epoch is complete everywhere, the committer makes all committables of the epoch visible. A sink
without two phases (console) writes at once and hands out nothing: its delivery is at least once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from streamflow.core.elements import AnyBatch
from streamflow.disk import Disk, LocalDisk
from streamflow.observe.registry import NO_METRICS, OperatorMetrics
from streamflow.operators.contract.operator import StreamType
from streamflow.time.clock import Clock, Randomness

__all__ = ["Committable", "Committer", "Delivery", "Sink", "SinkContext", "SinkWriter"]

Committable = Mapping[str, Any]
"""What is sealed and not yet visible: msgpack-able, opaque to the runtime."""

Delivery = Literal["exactly_once", "at_least_once"]


def _nothing(point: str) -> None:
    """Reaching a point means nothing unless somebody watches."""


def _at_leisure() -> None:
    """Where nothing drives epochs, they cannot be asked to end."""


async def _at_once() -> None:
    """Where nothing drives epochs, none is being committed."""


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a writer or committer is handed.

    `job` names the job whose output it is. `restored`: the epoch from whose checkpoint the run goes on; None where it
    starts over. `from_savepoint`: it is the epoch of a savepoint, which stands by itself: what was visible before may
    have been taken elsewhere. `checkpointed`: the run takes checkpoints, so that another one may have to tell its
    output from that of others. `allow_duplicates`: output ahead of the checkpoint that cannot be taken back is no
    error. `from_start`: a run that starts with nothing is meant to, although the job may have put out everything
    before. `reach` is called with the name of each step at which a crash would matter.

    `line` names the line of runs of which each goes on from a checkpoint of the one before; a run that starts over
    starts a new line. `first_epoch` is the first that this run will end, `restored_parent` the epoch that was committed
    before `restored`, `noted` what the committer has noted in that checkpoint (`Committer.note`).

    A writer that holds much asks for the epoch to be ended (`end_epoch`), and where even that does not help, because
    the epoch it ended last is still being stored or committed, awaits that (`settled`) before it takes more. One whose
    sealed output stays in memory awaits `room` before it takes anything: while epochs cannot be stored, it adds up.
    """

    operator_id: str
    subtask: int
    parallelism: int
    clock: Clock
    random: Randomness
    run_blocking: Callable[..., Any]
    """`await run_blocking(fn, *args)` runs a blocking call on the I/O threads. It writes: whoever is cancelled waits
    for its end, so that nothing is written any more when the job starts again."""
    disk: Disk = field(default_factory=LocalDisk)
    """Where what has to outlive a crash is written."""
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
    end_epoch: Callable[[], None] = _at_leisure
    settled: Callable[[], Awaitable[None]] = _at_once
    room: Callable[[], Awaitable[None]] = _at_once
    metrics: OperatorMetrics = NO_METRICS


class SinkWriter(Protocol):
    """Takes one subtask's output."""

    async def write(self, batch: AnyBatch) -> None: ...

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        """Seal what was written in this epoch; called at each barrier and at the end of input."""
        ...

    async def close(self) -> None:
        """Release what is held; what was not prepared is discarded. Called once, also after a failure."""
        ...


class Committer(ABC):
    """Makes sealed output visible; one per sink, or one for several sinks that are committed together."""

    async def begin(self) -> None:
        """The run starts over, not from a checkpoint. Called once, before anything is committed."""

    @abstractmethod
    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        """Make visible; must be safe to repeat after a crash with the same arguments. What was sealed in an epoch
        that could not be completed comes with a later one."""

    @abstractmethod
    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        """The run goes on from the checkpoint of `epoch`: make what it had sealed visible, as `commit` does, and take
        back what later epochs have made visible. What was sealed and is still to be committed by a later epoch
        (`carried`: a batch job commits at its end) is kept as it is; other leftovers of dead runs go. Raises SinkError
        where output cannot be taken back, unless duplicates are allowed. Called once, before anything is written."""

    def note(self) -> Mapping[str, Any] | None:
        """What it wants to be told after a restore of the checkpoint that is being taken (`SinkContext.noted`):
        msgpack-able. Of what that checkpoint seals nothing has been committed yet."""
        return None

    async def close(self) -> None:
        """Let go of what is held. Called once, also after a failure."""


class Sink(ABC):
    """A sink as immutable data."""

    delivery: Delivery = "at_least_once"
    commits: ClassVar[Literal["as_told", "epoch"]] = "as_told"
    """"epoch": output becomes visible with each epoch, also in a batch job, which otherwise commits at its end."""

    @property
    def committed_with(self) -> Hashable | None:
        """Sinks for which this is equal have one committer, made by any of them: their output becomes visible in one
        step. None: a committer of its own."""
        return None

    @property
    def writes_to(self) -> str | None:
        """The folder or file of this machine that it writes; None where it writes none, or somewhere else."""
        return None

    def check(self, input_type: StreamType) -> None:
        """Raise JobDefinitionError if the stream cannot be written here (called when the job is built)."""

    def place(self, input_type: StreamType) -> tuple[Hashable, Hashable] | None:
        """Where the output lies, and what all that is written there has in common: sinks of one job that name the same
        place and differ in the rest are refused. None: others do not matter."""
        return None

    @abstractmethod
    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter: ...

    def committer(self, ctx: SinkContext) -> Committer | None:
        """None for a sink without a second phase."""
        return None

    def describe(self) -> str:
        """One short line for plans."""
        return type(self).__name__
