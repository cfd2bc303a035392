"""`OperatorHarness`: one operator alone, with a memory backend and a test clock; no tasks, no channels, no event loop.

Hazelcast Jet's TestSupport is the model: the same script in batches of one record and of many has to give the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from streamflow.core.elements import AnyBatch, End
from streamflow.core.frame import FrameBatch
from streamflow.core.keys import key_group_range, key_groups, subtask_of
from streamflow.core.serde import frame_to_ipc, ipc_to_frame, pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import (
    ERRORS,
    LATE,
    MAIN,
    AsyncOperator,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
    StatePart,
    UpdateCadence,
)
from streamflow.operators.contract.waiting import Waiting, earliest
from streamflow.operators.stateless.rows import rows_of
from streamflow.runtime.control.input_watermarks import InputWatermarks
from streamflow.state.backends.factory import BackendKind, open_backend, open_saved
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.backends.saved import FilesInMemory
from streamflow.state.memory_share import MemoryShare
from streamflow.testing.clock import TestClock
from streamflow.testing.ends import Gathered
from streamflow.testing.results import difference, final_rows
from streamflow.testing.rows import Times, batch_of
from streamflow.time.clock import SeededRandom
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, to_micros

__all__ = ["OperatorHarness", "check_batchings"]

_MAX_PARALLELISM: Final = 128


class OperatorHarness:
    """Drives one operator: batches, watermarks and epochs in, rows of each output out.

    `inputs` are the types of its inputs, one for each port; records may be dicts, values or DataFrames and are
    converted to the operator's layout. `batch_rows` is the largest batch that pushed records are cut into. `reads`
    are the side outputs that are read. With `parallelism` there are several subtasks, each with its keys. Methods
    return the harness, so that calls can be chained. `backend` is the kind of keyed backend.

    >>> from streamflow.operators.stateless.columns import Filter
    >>> from streamflow.core.schema import Schema
    >>> numbers = StreamType(Schema({"n": pl.Int64}), timed=False)
    >>> OperatorHarness(Filter(predicate=pl.col("n") > 1), numbers).push([{"n": 1}, {"n": 2}]).output()
    [{'n': 2}]
    """

    def __init__(
        self,
        spec: OperatorSpec,
        *inputs: StreamType,
        clock: TestClock | None = None,
        batch_rows: int | None = None,
        reads: Collection[str] = (LATE, ERRORS),
        updates: UpdateCadence = "batch",
        memory_budget: int = 64 << 20,
        parallelism: int = 1,
        backend: BackendKind = "memory",
    ) -> None:
        self.spec = spec
        self.clock = clock or TestClock()
        self.metrics = OperatorMetrics("operator", 0)
        self.watermarks: list[int] = []
        """The watermarks that it forwarded, in microseconds."""
        self._inputs = inputs
        self._batch_rows = batch_rows
        self._collector = _Collector({MAIN, *reads}, lambda output: self._type(output))
        self._epoch = 0
        self._watermark = self._last_time = MIN_TIME
        untimed = [n for n, type_ in enumerate(inputs) if not (type_.timed and spec.needs(n).timed)]
        self._input_watermarks = InputWatermarks(
            range(len(inputs)), untimed=untimed if len(untimed) < len(inputs) else (), hear=self._hear
        )
        self._updates: UpdateCadence = updates
        self._memory_budget = memory_budget
        self._backend: BackendKind = backend
        self._start(parallelism)

    def push(
        self, records: pl.DataFrame | Iterable[Any], *, times: Times | None = None, port: int = 0
    ) -> OperatorHarness:
        """Pushes records on one input; `times` are their event times (or the column `__event_time` of a DataFrame)."""
        type_ = self._inputs[port]
        batch = batch_of(records, type_, times)
        if type_.timed and len(batch) and batch.max_time is None:
            raise JobDefinitionError("this input has event time", hint="give times=[…], one for each record")
        if batch.max_time is not None and not self.spec.needs(port).broadcast:
            self._last_time = max(self._last_time, batch.max_time)
        for part in _cut(batch, self._batch_rows):
            for operator, own in self._routed(part, port):
                operator.process_batch(_in_layout(own, self.spec.needs(port).layout), port, self._collector)
            self._settle()
        return self

    def watermark(self, time: datetime | str | int, *, port: int | None = None) -> OperatorHarness:
        """Moves event time to `time` (microseconds, a datetime or ISO 8601 text), on one input or on all.

        An input without event time only comes to its end, +∞.
        """
        micros = to_micros(time)
        moved = None
        for number in range(len(self._inputs)):
            if port in (None, number) and (to := self._input_watermarks.advance(number, micros)) is not None:
                moved = to
        if port is not None:
            if moved is None:
                self._settle()
                return self
            micros = moved
        if micros < MAX_TIME:
            self._watermark = max(self._watermark, micros)
        forwarded: list[int | None] = []
        for _, operator in self._subtasks:
            reached = operator.on_watermark(micros, self._collector)
            while operator.unfinished:
                reached = operator.on_watermark(micros, self._collector)
            forwarded.append(reached)
        marks = [mark for mark in forwarded if mark is not None]
        if len(marks) == len(forwarded):
            self.watermarks.append(min(marks))
        self._settle()
        return self

    def epoch(self) -> OperatorHarness:
        """Ends an epoch: a barrier has been aligned."""
        self._epoch += 1
        for _, operator in self._subtasks:
            operator.on_epoch_end(self._epoch, self._collector)
        self._settle()
        return self

    def tick(self) -> OperatorHarness:
        """Calls due processing-time work, by the clock's time."""
        now = self.clock.now()
        for _, operator in self._subtasks:
            due = operator.next_processing_time()
            if due is not None and due <= now:
                operator.on_processing_time(now, self._collector)
        self._settle()
        return self

    def finish(self) -> OperatorHarness:
        """Ends all inputs: the watermark goes to +∞ first. The largest event time is the last event's."""
        for _, operator in self._subtasks:
            operator.on_end(End(self._last_time, max(self._watermark, self._last_time - 1)))
        self.watermark(MAX_TIME)
        for _, operator in self._subtasks:
            operator.finish(self._collector)
        return self

    def waiting(self) -> tuple[Waiting, ...]:
        """The next result that waits for a watermark, and the next one for a processing time, over all subtasks."""
        return earliest(*(each for _, operator in self._subtasks for each in operator.waiting()))

    def output(self, name: str = MAIN) -> list[Any]:
        """The rows of an output so far: dicts for columns, the values themselves otherwise."""
        return self._collector.of(name).rows()

    def event_times(self, name: str = MAIN) -> list[int]:
        """The event times of an output's records, in microseconds."""
        return self._collector.of(name).event_times()

    def snapshot(self) -> list[StatePart]:
        """The snapshots of all subtasks, as they would come back from storage, with their keyed backends."""
        return [self._stored(ctx, operator) for ctx, operator in self._subtasks]

    def restore(self, parts: Sequence[StatePart], *, parallelism: int | None = None) -> OperatorHarness:
        """Continues with new subtasks, more or fewer if wanted, that restore their keys from these snapshots.

        The snapshots stay as they are and can be restored again.
        """
        for _, operator in self._subtasks:
            operator.close()
        self._start(parallelism or len(self._subtasks), parts)
        return self

    @property
    def outputs(self) -> Mapping[str, Gathered]:
        """All outputs that have rows."""
        return self._collector.outputs

    def _start(self, parallelism: int, parts: Sequence[StatePart] = ()) -> None:
        self._subtasks: list[tuple[OperatorContext, Operator]] = []
        for subtask in range(parallelism):
            groups = key_group_range(subtask, parallelism, _MAX_PARALLELISM)
            mine = [
                part for part in parts if part.groups.start < groups.stop and groups.start < part.groups.stop
            ]
            state = open_backend(self._backend)
            if len(mine) == 1 and mine[0].groups == groups:
                state = _copied(mine[0].backend)
                mine = [replace(mine[0], backend=None, adopted=True)]
            context = OperatorContext(
                operator_id="operator",
                subtask=subtask,
                parallelism=parallelism,
                max_parallelism=_MAX_PARALLELISM,
                clock=self.clock,
                random=SeededRandom(0),
                state=state,
                metrics=self.metrics,
                updates=self._updates,
                memory_budget=MemoryShare.alone(self._memory_budget),
            )
            operator = self.spec.build(context, self._inputs)
            if isinstance(operator, AsyncOperator):
                raise JobDefinitionError(
                    f"{self.spec.kind} awaits, and a harness has no event loop",
                    hint="test it in a job: TestJob",
                )
            if mine:
                operator.restore(mine)
            self._subtasks.append((context, operator))

    def _stored(self, ctx: OperatorContext, operator: Operator) -> StatePart:
        kept = operator.snapshot()
        tables = {
            name: [(pane, ipc_to_frame(frame_to_ipc(frame))) for pane, frame in table]
            for name, table in kept.tables.items()
        }
        return StatePart(ctx.groups, unpack(pack(dict(kept.values))), tables, _copied(ctx.state))

    def _routed(self, batch: AnyBatch, port: int) -> list[tuple[Operator, AnyBatch]]:
        """Each record for the subtask that has its key, or for all of them."""
        needs = self.spec.needs(port)
        if needs.broadcast:
            return [(operator, batch) for _, operator in self._subtasks]
        keys = needs.keys
        if len(self._subtasks) == 1 or not keys or not isinstance(batch, FrameBatch):
            return [(self._subtasks[0][1], batch)]
        groups = key_groups(batch.frame, keys, _MAX_PARALLELISM)
        owners = subtask_of(groups, len(self._subtasks), _MAX_PARALLELISM)
        return [
            (operator, FrameBatch(batch.frame.filter(owners == number)))
            for number, (_, operator) in enumerate(self._subtasks)
        ]

    def _type(self, output: str) -> StreamType:
        if output == MAIN:
            return self.spec.output_type(self._inputs)
        return self.spec.side_type(output, self._inputs)

    def _hear(self, port: int, watermark: int) -> None:
        for _, operator in self._subtasks:
            operator.on_input_watermark(port, watermark)

    def _settle(self) -> None:
        own = [operator.output_watermark for _, operator in self._subtasks]
        moved = min((MIN_TIME if mark is None else mark for mark in own), default=MIN_TIME)
        if moved > max(self.watermarks, default=MIN_TIME):
            self.watermarks.append(moved)
        self._taken()

    def _taken(self) -> None:
        """Called after each element, for subclasses that act between elements."""


class _Collector:
    def __init__(self, reads: set[str], type_of: Callable[[str], StreamType]) -> None:
        self.outputs: dict[str, Gathered] = {}
        self._reads = reads
        self._type_of = type_of

    def emit(self, batch: AnyBatch) -> None:
        self.of(MAIN).batches.append(batch)

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        if output in self._reads or output not in (LATE, ERRORS):
            self.of(output).batches.append(batch)

    def connected(self, output: str) -> bool:
        return output in self._reads

    def of(self, output: str) -> Gathered:
        if output not in self.outputs:
            self.outputs[output] = Gathered(self._type_of(output))
        return self.outputs[output]


def check_batchings(
    spec: OperatorSpec,
    *inputs: StreamType,
    script: Callable[[OperatorHarness], object],
    batch_rows: Sequence[int] = (1, 2, 3),
    key: Sequence[str] | None = None,
    tolerance: float = 1e-9,
    **options: Any,
) -> None:
    """Run a script on an operator with its pushes whole and cut into small batches; the final results must be the same.

    `key` names the columns by which a later row replaces an earlier one (panes that fire again); changes are applied.
    `options` are those of the harness. Raises AssertionError that shows the rows that differ.

    >>> from streamflow.operators.stateless.columns import Filter
    >>> from streamflow.core.schema import Schema
    >>> numbers = StreamType(Schema({"n": pl.Int64}), timed=False)
    >>> check_batchings(Filter(predicate=pl.col("n") > 1), numbers, script=lambda h: h.push([{"n": 1}, {"n": 2}]))
    """
    whole = OperatorHarness(spec, *inputs, **options)
    script(whole)
    for size in batch_rows:
        cut = OperatorHarness(spec, *inputs, batch_rows=size, **options)
        script(cut)
        for name in whole.outputs.keys() | cut.outputs.keys():
            text = difference(
                final_rows(whole.output(name), key), final_rows(cut.output(name), key), tolerance=tolerance
            )
            if text:
                raise AssertionError(f"{spec.kind}, output {name}, in batches of {size}:\n{text}")


def _copied(backend: KeyedStateBackend | None) -> KeyedStateBackend:
    """A new backend with the same content, copied through the files that it would be stored in."""
    if backend is None:
        return MemoryBackend()
    if isinstance(backend, MemoryBackend):
        content = backend.save(Path())  # which lies in no folder
        return open_saved(content.kind, FilesInMemory.of(content))
    with tempfile.TemporaryDirectory(prefix="streamflow-harness-") as folder:
        saved = backend.save(Path(folder) / "saved")
        return MemoryBackend() if saved is None else open_saved(saved.kind, FilesInMemory.of(saved))


def _cut(batch: AnyBatch, rows: int | None) -> list[AnyBatch]:
    if rows is None or len(batch) <= rows:
        return [batch]
    return [batch.part(start, start + rows) for start in range(0, len(batch), rows)]


def _in_layout(batch: AnyBatch, layout: Layout) -> AnyBatch:
    return rows_of(batch) if layout is Layout.ROWS else batch
