"""The operator contract: the data that the planner reads and the methods that the task loop calls.

An operator comes in two halves. An `OperatorSpec` is immutable data in the graph: it knows its layout and schemas and
builds the logic. An `Operator` is the logic of one subtask.

Concurrency promise: one thread at a time calls an operator, and nothing else runs between two of its calls for the
same subtask. No method may block on I/O or await; what happens inside one call is atomic with respect to barriers,
watermarks and timers, so operators need no locks. A *pure* spec (`pure = True`) promises more: its logic keeps no
state between batches and may run on several threads at once, each with its own instance, in the source's read-ahead.
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
from streamflow.core.stream_type import StreamType
from streamflow.observe.registry import NO_METRICS, OperatorMetrics
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.waiting import Waiting
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.memory_share import MemoryShare
from streamflow.state.operator_snapshot import EMPTY, OperatorSnapshot, StatePart
from streamflow.time.clock import Clock, Randomness

__all__ = [
    "ERRORS",
    "LATE",
    "MAIN",
    "AsyncOperator",
    "BatchFunction",
    "ByInput",
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
    "UpdateCadence",
    "own_output",
]

MAIN: Final = "main"
LATE: Final = "late"
ERRORS: Final = "errors"


def own_output(name: str) -> str:
    """The output for a name given by a user; names that operators use themselves are kept apart.

    >>> own_output("large"), own_output("late")
    ('large', 'own late')
    """
    return f"own {name}" if name in (MAIN, LATE, ERRORS) else name


ErrorPolicy = Literal["fail", "skip", "dead_letter"]
UpdateCadence = Literal["batch", "epoch", "end"]
OnChanges = Literal["pass", "take", "refuse"]
"""An operator's treatment of an input of changes: "pass" leaves them as changes, row by row; "take" handles their
kinds and gives records; "refuse" stands for operators that would count each change as a record, with a wrong result."""


ByInput = Callable[[int, tuple[str, ...]], bool | None]
"""The answer of `OperatorSpec.one_row_each` for an input of the operator, by its number and columns there."""


class Collector(Protocol):
    """The output of an operator; buffered, so that it never blocks."""

    def emit(self, batch: AnyBatch) -> None:
        """Puts a batch on the main output."""
        ...

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        """Puts a batch on a side output (`LATE`, `ERRORS`, or a name from `split`); dropped if nothing reads the
        output."""
        ...

    def connected(self, output: str) -> bool:
        """Whether anything reads that output: if nothing does, late records are counted as dropped."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """The context of a subtask's operator, handed over when it is built; everything outside the program comes through
    it.

    `groups` are the key groups that the subtask owns, `shared` is a dict that all subtasks of the operator share.
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
    memory_budget: MemoryShare = field(default_factory=lambda: MemoryShare.alone(256 << 20))
    """The memory for the stores of this subtask's operator; other subtasks leave it more if they need less."""
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
        """Takes one batch that arrived on input `port`."""

    def on_input_watermark(self, port: int, watermark: int) -> None:
        """Notes the watermark of one input; only for operators at the head of a task.

        Inputs without event time have only the last one, +∞, when they end. That of all inputs comes next, through
        `on_watermark`, if it moves.
        """

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        """Takes a new watermark (microseconds), the smallest of all inputs', and emits all that it triggers.

        Returns the watermark to forward after the output: normally the same, smaller to hold it back, None for none.
        """
        return watermark

    @property
    def output_watermark(self) -> int | None:
        """The watermark of the output, for an operator that holds it back and moves it later by itself; None for none.

        Read after each element, and forwarded when it has risen, after the output.
        """
        return None

    def on_end(self, end: End) -> None:
        """Takes the event time that the ended inputs reached; the watermark +∞ comes next."""

    def work_at(self, watermark: int) -> int:
        """The estimated number of rows that `on_watermark` would work on: many go to a thread. Has to be quick."""
        return 0

    @property
    def unfinished(self) -> bool:
        """Whether `on_watermark` stopped before its end, having emitted enough for now.

        The task loop then calls it again with the same watermark as soon as the output is handed on, and nothing
        before.
        """
        return False

    def waiting(self) -> tuple[Waiting, ...]:
        """The next result that is held back until the watermark comes, the next one until a processing time, and the
        first that an answer from outside is awaited for; each only if there is one. Called on the event loop between
        two elements, when somebody asks, so it has to be quick: what is stored is not gone over."""
        return ()

    def on_epoch_end(self, epoch: int, out: Collector) -> None:
        """Emits output that is due once an epoch; called after a barrier's alignment and before `snapshot`."""

    def finish(self, out: Collector) -> None:
        """Emits what is left; called when all inputs have ended, after watermark +∞."""

    def next_processing_time(self) -> int | None:
        """The time of the next `on_processing_time`, in microseconds since 1970; None for none. Read after each
        element."""
        return None

    def on_processing_time(self, now: int, out: Collector) -> None:
        """Called when processing time has reached `next_processing_time`."""

    def snapshot(self) -> OperatorSnapshot:
        """The state beside the keyed backend; the backend itself is brought up to date first.

        Called between two elements and quick, since nothing else runs meanwhile: the returned state is written later.
        """
        return EMPTY

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores this subtask's part of an earlier run's state; called before the first element, and only if there
        is state."""

    def close(self) -> None:
        """Releases resources; called once, also after a failure."""


class AsyncOperator(Operator):
    """An operator that works between elements too (requests to services): the head of its task, fed by channels.

    It is called on the event loop only, never on a thread, and no call awaits; the task loop does all waiting:

    - The loop takes elements while the operator is `accepting`, and waits for `pending` otherwise.
    - Before each element, and whenever `pending` is done, it calls `collect` and hands the output on; again if
      `output_watermark` has risen, which goes to the operators behind and downstream first.
    - `on_watermark` returns None where results have to come before the watermark: `output_watermark` gives it after
      them.
    - Idle is said downstream when `pending` is None, not before.
    - A barrier is taken when it comes: what has not been put out is in the snapshot and is begun again after a restore.
    - At the end of input it collects until `pending` is None, and calls `finish` then.
    """

    @property
    @abstractmethod
    def accepting(self) -> bool:
        """Whether the operator takes another batch: whether all earlier inputs have been begun."""

    @property
    @abstractmethod
    def pending(self) -> asyncio.Future[None] | None:
        """A future that is done when `collect` has output or `accepting` has become true; None if no output is left.

        To be read again after each call; cancelling it does no harm.
        """

    @abstractmethod
    def collect(self, out: Collector) -> None:
        """Emits output that is ready, up to the next watermark that waits for it.

        Also begins work left over from before a restore.
        """

    async def released(self) -> None:
        """Waits, after `close`, until its resources are released."""


class OperatorSpec(ABC):
    """One operator as immutable data: frozen dataclasses, compared and rendered by their fields."""

    kind: ClassVar[str]
    takes: ClassVar[InputNeeds] = InputNeeds()
    """The needs on every input, where they are the same and do not depend on the operator's fields."""
    emits: ClassVar[Layout] = Layout.ANY
    """The layout of its output; ANY is the input's layout."""
    pure: ClassVar[bool] = False
    asynchronous: ClassVar[bool] = False
    """Whether it builds an `AsyncOperator`, which the planner puts at the head of a task."""
    on_changes: ClassVar[OnChanges] = "refuse"
    calls_functions: ClassVar[bool] = False
    """Whether it calls users' functions record by record: they may be slow, so a batch is cut into portions, and a
    job can stop between them."""

    @abstractmethod
    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        """The type of the main output; raises JobDefinitionError if the inputs do not fit."""

    def overwrites(self, column: str) -> bool:
        """Whether it is known to put other values into a column of its input."""
        return False

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        """The type of a side output: the input's, unless overridden."""
        return inputs[0]

    @abstractmethod
    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        """The logic for one subtask."""

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any] | None:
        """The facts that must stay the same for state to fit, as plain values; None if the operator keeps no state."""
        return None

    def check_state(self, saved: Mapping[str, Any], inputs: Sequence[StreamType]) -> list[str]:
        """Reasons why state kept under the signature `saved` does not fit, a sentence each; none if it fits."""
        mine = self.state_signature(inputs) or {}
        return [
            f"{name} was {saved.get(name)!r} and is {mine.get(name)!r}"
            for name in sorted({*saved, *mine})
            if saved.get(name) != mine.get(name)
        ]

    def laid_out_as(self, saved: Mapping[str, Any]) -> OperatorSpec:
        """The same operator with its state in the order of keys and aggregates of the signature `saved`; its output
        is the same.

        Returns itself if the order is the same, or if the keys and aggregates differ.
        """
        return self

    def needs(self, port: int) -> InputNeeds:
        """The needs on input `port`."""
        return self.takes

    @property
    def reads_watermarks(self) -> bool:
        """Whether records have to carry the watermark right before each: true if timers fire between records."""
        return False

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        """Whether records that arrive partitioned by these columns leave partitioned by them."""
        return self.needs(0).keys == keys

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        """Whether a changing result has one row at most for each value of these columns, all of whose changes come in
        order, a new row for the one before as an update; None if that is not known. `before` tells it of an input.

        Of changes that are so by no column at all, as a log's are, all that comes of them one by one is in order.
        """
        return (self.on_changes == "pass" and before(0, ())) or None

    def split_combiner(self, inputs: Sequence[StreamType]) -> tuple[OperatorSpec, OperatorSpec] | None:
        """(combiner, the rest): a pure partial aggregate for the source's read-ahead, before the hash exchange, and
        this operator fed by it. None if that would change a result."""
        return None

    def fuse(self, id: str, following: OperatorSpec, following_id: str) -> OperatorSpec | None:
        """One spec for this operator (called `id`) and then `following`, if that is cheaper; None otherwise."""
        return None

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        """The input columns needed to give the `needed` columns of the output; None means all."""
        return None

    def describe(self) -> str:
        """One short line for plans, without the operator's kind."""
        return ""


Query = Callable[[pl.LazyFrame], pl.LazyFrame]
"""A frame operator's work as a lazy query."""


class BatchFunction(Protocol):
    """A pure operator's whole logic: one batch in, batches out through the collector."""

    def __call__(self, batch: AnyBatch, out: Collector) -> None: ...


class PureSpec(OperatorSpec):
    """A spec whose logic is a function of one batch."""

    pure: ClassVar[bool] = True
    on_changes: ClassVar[OnChanges] = "pass"

    @property
    def is_query(self) -> bool:
        """Whether `query` does the whole of its work."""
        return False

    def query(self, inputs: Sequence[StreamType]) -> Query | None:
        """The whole of its work on a frame as a lazy Polars query; None if it does more."""
        return None

    def stands(self, result: pl.DataFrame) -> bool:
        """Whether the result of a query that ends with this operator is valid. If not, `function` has to find the
        error."""
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
