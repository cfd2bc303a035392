"""The operator contract: what the planner may know and what the task loop calls.

An operator comes in two halves. An `OperatorSpec` is immutable data in the graph: it knows its layout and schemas and
builds the logic. An `Operator` is the logic of one subtask.

Concurrency promise: one thread at a time calls an operator, and nothing else runs between two of its calls for the
same subtask. No method may block on I/O or await; what happens inside one call is atomic with respect to barriers,
watermarks and timers, so operators need no locks. A *pure* spec (`pure = True`) promises more: its logic keeps no
state between batches and may run on several threads at once, each with its own instance, where the data is read.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Protocol

import polars as pl

from streamflow.core.batch import Layout
from streamflow.core.elements import AnyBatch, End
from streamflow.core.keys import key_group_range
from streamflow.core.schema import Schema, StreamSchema
from streamflow.observe.registry import NO_METRICS, OperatorMetrics
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.operator_snapshot import EMPTY, OperatorSnapshot, StatePart
from streamflow.time.clock import Clock, Randomness

__all__ = [
    "ERRORS",
    "LATE",
    "MAIN",
    "AsyncOperator",
    "BatchFunction",
    "Collector",
    "ErrorPolicy",
    "Layout",
    "OnChanges",
    "Operator",
    "OperatorContext",
    "OperatorSnapshot",
    "OperatorSpec",
    "PureSpec",
    "Query",
    "StatePart",
    "StreamType",
    "UpdateCadence",
    "own_output",
]

MAIN: Final = "main"
LATE: Final = "late"
ERRORS: Final = "errors"


def own_output(name: str) -> str:
    """The output that a user has given this name, which may be one of an operator's own.

    >>> own_output("large"), own_output("late")
    ('large', 'own late')
    """
    return f"own {name}" if name in (MAIN, LATE, ERRORS) else name


ErrorPolicy = Literal["fail", "skip", "dead_letter"]
UpdateCadence = Literal["batch", "epoch", "end"]
OnChanges = Literal["pass", "take", "refuse"]
"""What an operator makes of an input of changes: they leave it as changes, row by row; it deals with their kinds
itself, and its output is none; or it would take each for a record, and the result would be wrong."""


@dataclass(frozen=True, slots=True)
class StreamType:
    """What a stream carries, known when the job is built: its columns, and whether records have event times.

    `changes`: its records are changes of a result, of which the column CHANGE says the kind; in any other stream a
    column of that name is the user's.
    """

    schema: StreamSchema
    timed: bool
    changes: bool = False

    @property
    def layout(self) -> Layout:
        """The layout of its batches: frames where it has columns, rows where it holds objects."""
        return Layout.FRAME if isinstance(self.schema, Schema) else Layout.ROWS


class Collector(Protocol):
    """Where an operator puts its output; buffered, so that it never blocks."""

    def emit(self, batch: AnyBatch) -> None:
        """To the main output."""
        ...

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        """To a side output (`LATE`, `ERRORS`, or a name from `split`); dropped where nothing reads it."""
        ...

    def connected(self, output: str) -> bool:
        """Whether anything reads that output: late records are counted as dropped where nothing does."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What a subtask's operator is handed when it is built; everything outside the program comes through it.

    `groups` are the key groups that the subtask owns, `shared` what all subtasks of the operator have in common.
    """

    operator_id: str
    subtask: int
    parallelism: int
    max_parallelism: int
    clock: Clock
    random: Randomness
    state: KeyedStateBackend
    metrics: OperatorMetrics = NO_METRICS
    updates: UpdateCadence = "batch"
    memory_budget: int = 256 << 20
    shared: dict[str, Any] = field(default_factory=dict[str, Any])
    marks: bool = False
    """Whether an operator behind this one reads the watermarks that records carry."""

    @property
    def groups(self) -> range:
        return key_group_range(self.subtask, self.parallelism, self.max_parallelism)


class Operator(ABC):
    """The logic of one operator in one subtask. Defaults: pass watermarks on, keep no state."""

    @abstractmethod
    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        """Take one batch that arrived on input `port`."""

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        """Event time has reached `watermark` (microseconds). Emit all that it triggers; return the watermark to
        forward after it (normally the same; smaller to hold it back; None for none)."""
        return watermark

    def on_end(self, end: End) -> None:
        """The inputs have ended, the watermark goes to +∞ next: how far event time had come."""

    def work_at(self, watermark: int) -> int:
        """About how many rows `on_watermark` would work on: many are worked on beside the event loop. To be quick."""
        return 0

    @property
    def unfinished(self) -> bool:
        """Whether `on_watermark` has stopped before its end, having put out enough for now: it is called again with the
        same watermark as soon as that has been handed on, and nothing else is called before."""
        return False

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        """A barrier has been aligned: emit what is due once an epoch. Called before `snapshot`."""

    def finish(self, out: Collector) -> None:
        """All inputs have ended (after watermark +∞): emit what is left."""

    def next_processing_time(self) -> int | None:
        """When `on_processing_time` is due next, in microseconds since 1970; None while it waits for nothing. Asked
        after each element."""
        return None

    def on_processing_time(self, now: int, out: Collector) -> None:
        """Processing time has reached what `next_processing_time` asked for."""

    def snapshot(self) -> OperatorSnapshot:
        """What it holds beside the keyed backend, which it brings up to date before. Called between two elements;
        quick, since nothing goes on meanwhile: what it hands out is written later."""
        return EMPTY

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Take back what the subtasks of an earlier run had, as far as it is this subtask's; before the first
        element. Not called where there is nothing."""

    def close(self) -> None:
        """Release what is held; called once, also after a failure."""


class AsyncOperator(Operator):
    """An operator whose work goes on between elements (requests to services): the head of its task, fed by channels.

    It is called on the event loop only, never on a thread, and no call awaits; the task loop does all waiting:

    - It takes elements while the operator is `accepting`, and waits for `pending` otherwise.
    - Before each element, and whenever `pending` is done, it calls `collect` until that returns None. What was put out
      is handed on; a watermark that was returned then goes to the operators behind and downstream.
    - `on_watermark` returns None where results have to come before the watermark: `collect` returns it after them.
    - Idle is said downstream when `pending` is None, not before.
    - A barrier is taken when it comes: what has not been put out is in the snapshot and is begun again after a restore.
    - At the end of input it collects until `pending` is None, and calls `finish` then.
    """

    @property
    @abstractmethod
    def accepting(self) -> bool:
        """Whether it takes another batch: whether all that it was given has been begun."""

    @property
    @abstractmethod
    def pending(self) -> asyncio.Future[None] | None:
        """Done when `collect` has something to put out or `accepting` has become true; None where nothing is left to
        be put out. Ask again after each call; cancelling it does no harm."""

    @abstractmethod
    def collect(self, out: Collector) -> int | None:
        """Put out what is ready; the watermark to forward after it, if one waited for it: then call again. Also begins
        what there is to begin after a restore."""

    async def released(self) -> None:
        """After `close`: wait until what it held has been let go."""


class OperatorSpec(ABC):
    """One operator as immutable data: frozen dataclasses, compared and rendered by their fields."""

    kind: ClassVar[str]
    accepts: ClassVar[Layout] = Layout.ANY
    emits: ClassVar[Layout] = Layout.ANY
    """ANY: the layout that came in."""
    pure: ClassVar[bool] = False
    asynchronous: ClassVar[bool] = False
    """Builds an `AsyncOperator`, which the planner puts at the head of a task."""
    on_changes: ClassVar[OnChanges] = "refuse"
    calls_functions: ClassVar[bool] = False
    """Whether it calls functions of the user's record by record: these may be slow, so that a batch is worked on in
    portions, between which a job can stop."""

    @abstractmethod
    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        """The type of the main output; raises JobDefinitionError where the inputs do not fit."""

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        """The type of a side output: the input's, unless said otherwise."""
        return inputs[0]

    @abstractmethod
    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        """The logic for one subtask."""

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any] | None:
        """What must stay the same for its state to fit, as plain values; None: it keeps no state."""
        return None

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        """Why state that was kept under the signature `saved` does not fit, a sentence each; none where it does."""
        mine = self.state_signature(inputs) or {}
        return [
            f"{name} was {saved.get(name)!r} and is {mine.get(name)!r}"
            for name in sorted({*saved, *mine})
            if saved.get(name) != mine.get(name)
        ]

    def laid_out_as(self, saved: Mapping[str, Any]) -> OperatorSpec:
        """The same operator with its state in the order of keys and aggregates that the signature `saved` has; what it
        puts out stays as it is. Itself where the order is the same, or other keys and aggregates are."""
        return self

    @property
    def partition_by(self) -> tuple[str, ...] | None:
        """The key columns by which its input must be partitioned; None: any distribution will do."""
        return None

    @property
    def reads_watermarks(self) -> bool:
        """Whether each record is to carry the watermark right before it: where timers fire between records."""
        return False

    def broadcasts(self, port: int) -> bool:
        """Whether every subtask gets all records of this input, whatever `partition_by` says."""
        return False

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        """Whether records that come partitioned by these columns leave partitioned by them."""
        return self.partition_by == keys

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        """(combiner, the rest): a pure partial aggregate to run where the data is read, before the hash exchange,
        and this operator as it is when fed by it. None where that would change a result."""
        return None

    def fuse(self, id: str, following: OperatorSpec, following_id: str) -> OperatorSpec | None:
        """One spec that does what this (the operator `id`) and then `following` does, where that is cheaper; None
        otherwise."""
        return None

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        """The input columns it takes to give the `needed` columns of the output; None means all."""
        return None

    def describe(self) -> str:
        """One short line for plans: what it does, without its kind."""
        return ""


Query = Callable[[pl.LazyFrame], pl.LazyFrame]
"""A frame operator's work, before it is done."""


class BatchFunction(Protocol):
    """A pure operator's whole logic: one batch in, batches out through the collector."""

    def __call__(self, batch: AnyBatch, out: Collector) -> None: ...


class PureSpec(OperatorSpec):
    """A spec whose logic is a function of one batch."""

    pure: ClassVar[bool] = True
    on_changes: ClassVar[OnChanges] = "pass"

    @property
    def is_query(self) -> bool:
        """Whether `query` has the whole of its work."""
        return False

    def query(self, inputs: Sequence[StreamType]) -> Query | None:
        """The whole of its work on a frame as a lazy Polars query; None where it is more than that."""
        return None

    def stands(self, result: pl.DataFrame) -> bool:
        """Whether the result of a query that ends with this one can stand. Where not, `function` has to say why."""
        return True

    @abstractmethod
    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        """The function; called from several threads at once."""

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _PureOperator(self.function(ctx, inputs))


@dataclass(slots=True)
class _PureOperator(Operator):
    apply: BatchFunction = field()

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        self.apply(batch, out)
