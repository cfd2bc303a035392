"""The source contract: splits, readers, enumerators.

A `Split` is a unit of source work (a file, a range of one, a Kafka partition). The `Enumerator` finds splits and the
runtime hands each to one subtask. A `SplitReader` reads one split in order. Reading has two steps: `fetch` awaits the
next piece and is cheap on the event loop; the `decode` that it returns is synchronous, may take long, and runs on a
thread, several pieces ahead. Watermarks are made per split by the runtime, from the decoded batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.errors import ConfigError, DamagedError, RecordError
from streamflow.observe.registry import NO_METRICS, Metrics
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.time.clock import Clock, Randomness

__all__ = [
    "CheckpointListener",
    "Decoded",
    "Discovery",
    "Enumerator",
    "Fetch",
    "Instance",
    "InstanceClaim",
    "Position",
    "Source",
    "SourceContext",
    "Split",
    "SplitKeeper",
    "SplitListener",
    "SplitReader",
    "counted_in",
]

Position = Mapping[str, Any]
"""A place to continue at in a split: plain values for msgpack, opaque to the runtime."""


def counted_in(position: Position, name: str) -> int:
    """A count in a position from a checkpoint; raises DamagedError if it is missing.

    >>> counted_in({"row": 7}, "row")
    7
    """
    count: object = position.get(name)
    if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
        return count
    raise DamagedError(
        f"a position has no count {name}: {dict(position)!r}", hint="restore another checkpoint"
    )


@dataclass(frozen=True, slots=True)
class Instance:
    """One of several copies of one program, each of which reads its own part of the splits; `index` counts from 0.

    >>> Instance(1, 4).of("delays")
    'delays-2-of-4'
    """

    index: int = 0
    count: int = 1

    @classmethod
    def given(cls, instance: tuple[int | None, int]) -> Instance:
        """The instance that the settings name; raises ConfigError if the copies still have to agree on it.

        >>> Instance.given((1, 4))
        Instance(index=1, count=4)
        """
        index, count = instance
        if index is None:
            raise ConfigError(f"instance is group/{count}", hint="here it has to be a number, like 2/4")
        return cls(index, count)

    def of(self, name: str) -> str:
        """A name of which each copy has its own; unchanged for a program that runs alone."""
        return name if self.count == 1 else f"{name}-{self.index + 1}-of-{self.count}"


@dataclass(frozen=True, slots=True)
class Split:
    """A unit of source work.

    `holds_watermark`: as long as the split waits to be read, the source's watermark waits too (files side by side).
    False if splits follow one another in time (ranges of one file, files of a watched folder). `unbounded`: it has no
    end (a partition that goes on), so that others cannot wait for it.
    """

    id: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    holds_watermark: bool = True
    unbounded: bool = False


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded piece of a split: a batch, and the records that could not be decoded.

    `watermark` is the split's own watermark after this piece (microseconds), in place of the one computed from event
    times. `idle`: the split has nothing more for now and holds no watermark back until its next piece. Both are for
    sources that know (punctuated input, test scripts).
    """

    batch: AnyBatch
    bad: Sequence[RecordError] = ()
    watermark: int | None = None
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """A piece of a split that has been fetched and not yet decoded.

    `decode` may run on a thread and beside the decodes of later pieces. `position` is where reading continues after
    it. `nbytes` is its size as read, for the bytes-in counter.
    """

    decode: Callable[[], Decoded]
    position: Position
    nbytes: int = 0


class SplitReader(Protocol):
    """Reads one split in order."""

    async def fetch(self) -> Fetch | None:
        """The next piece, awaited; None at the split's end. Cancelling is safe: a cancelled fetch has consumed
        nothing."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Discovery:
    """The findings of an enumerator: new splits in reading order, and whether more may come."""

    splits: Sequence[Split]
    final: bool


class Enumerator(Protocol):
    """Finds splits. One per source, whatever its parallelism."""

    async def discover(self) -> Discovery:
        """Splits not reported before. Called again until `final`; later calls wait for news."""
        ...

    def snapshot(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class CheckpointListener(Protocol):
    """An enumerator that is told of published checkpoints."""

    async def checkpointed(self, positions: Mapping[str, Position]) -> None:
        """Takes the positions (by split id, of splits being read) of a checkpoint that is published and its output
        committed.

        For information only (offsets of a consumer group): nothing may depend on it, and it is not called again after
        a crash. An error is logged and does not fail the job.
        """
        ...


@runtime_checkable
class SplitListener(Protocol):
    """An enumerator that is told which of its splits have not been read to their end."""

    def unread(self, splits: Collection[str]) -> None:
        """Takes the ids of reported splits that have not been read to their end; called when a run begins, after
        `restore`, and at each change."""
        ...


@runtime_checkable
class SplitKeeper(Protocol):
    """An enumerator whose source may read other splits than the run that it continues."""

    def keeps(self, split: Split) -> bool:
        """Whether a restored split is read on; called after `restore`. The enumerator itself logs a split that is
        not."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all that the source reads has been found, if the earlier run had found all."""
        ...


class InstanceClaim(Protocol):
    """A copy's share of the input, agreed upon with the other copies."""

    async def take(self) -> int:
        """The share of this copy, from 0; waits until one is free."""
        ...

    async def lost(self) -> None:
        """Returns when another copy has taken the share."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """The context of a reader or enumerator.

    `batch_rows` is the size to aim for; `on_error` says whether bad records end up in `Decoded.bad` ("skip",
    "dead_letter") or raise ("fail"). `columns` are the only columns that anything reads (projection), None for all.
    `shared` is one dict for the enumerator and all readers of the source in a run, for what they share (a
    connection), which the last one to close closes.
    """

    operator_id: str
    clock: Clock
    random: Randomness
    run_blocking: Callable[..., Any]
    """Runs a blocking call on the I/O threads: `await run_blocking(fn, *args)`. The call reads: a cancelled caller
    does not wait for its end."""
    batch_rows: int
    on_error: ErrorPolicy = "fail"
    columns: Sequence[str] | None = None
    stamped: bool = False
    """Whether event time comes from elsewhere than the records' own, so that a record needs none."""
    job: str = "job"
    instance: Instance = Instance()
    metrics: Metrics = NO_METRICS
    shared: dict[str, Any] = field(default_factory=dict[str, Any])


class Source(ABC):
    """A source as immutable data (a frozen dataclass)."""

    @property
    @abstractmethod
    def bounded(self) -> bool: ...

    @property
    def replayable(self) -> bool:
        """Whether a reader can continue from any position, also in a new process: without that there are no
        checkpoints."""
        return True

    @property
    def shareable(self) -> bool:
        """Whether copies of the program can divide the input among themselves (`SourceContext.instance`)."""
        return False

    def share(self, job: str, count: int) -> InstanceClaim | None:
        """A claim on one of `count` shares, if copies can agree on them through this source."""
        return None

    @property
    def input(self) -> Mapping[str, Any]:
        """The identity of its input, as plain values: kept in checkpoints, so that positions of one input are never
        taken for those of another."""
        return {}

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Reasons why positions in the input `saved` (`input` of an earlier run's source of this kind) do not fit
        this one, a sentence each; none if they fit."""
        mine = self.input
        return [
            f"its {name} was {saved[name]!r} and is {mine[name]!r}"
            for name in mine
            if name in saved and saved[name] != mine[name]
        ]

    @abstractmethod
    def output_type(self) -> StreamType:
        """The columns, and whether records carry their own event time; may look at the input (files without schema)."""

    @abstractmethod
    def enumerator(self, ctx: SourceContext) -> Enumerator: ...

    @abstractmethod
    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        """A reader for the split, from its start or from `position`."""

    def describe(self) -> str:
        """One short line for plans."""
        return type(self).__name__
