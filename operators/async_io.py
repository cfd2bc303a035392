"""`MapAsync`: the one operator that awaits user coroutines: look-ups in services, several at once.

It stands at the head of its task. All requests of a batch have been answered when the batch is done, so nothing is in
flight at a watermark or a barrier. A request that fails or times out is tried again as `Backoff` says, and is then a
bad record under the error policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.base import (
    AsyncOperator,
    Collector,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
    StreamType,
)
from streamflow.operators.guard import DEAD_LETTER_TYPE, Guard
from streamflow.operators.rows import rows_of
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.schema import StreamSchema
from streamflow.time.timestamps import Duration, parse_duration

__all__ = ["Backoff", "MapAsync", "backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """So many retries; the pause before each is twice the one before. Microseconds."""

    retries: int
    first: int = 100_000
    longest: int = 10_000_000

    def pause(self, attempt: int) -> int:
        """Microseconds to wait before retry `attempt` (from 0)."""
        return min(self.first << attempt, self.longest)


def backoff(retries: int, *, first: Duration = "100ms", longest: Duration = "10s") -> Backoff:
    """Exponential back-off for `map_async(retries=…)`.

    >>> [backoff(3).pause(attempt) for attempt in range(3)]
    [100000, 200000, 400000]
    """
    if retries < 0:
        raise JobDefinitionError(f"{retries} retries", hint="give 0 or more")
    return Backoff(
        retries,
        parse_duration(first, what="the first pause", positive=True),
        parse_duration(longest, what="the longest pause", positive=True),
    )


@dataclass(frozen=True)
class MapAsync(OperatorSpec):
    """A coroutine function on each row, up to `capacity` at once."""

    kind: ClassVar[str] = "map_async"
    accepts: ClassVar[Layout] = Layout.ROWS
    emits: ClassVar[Layout] = Layout.ROWS
    asynchronous: ClassVar[bool] = True
    function: Callable[[Any], Any]
    schema: StreamSchema
    capacity: int
    ordered: bool
    timeout: int
    retries: Backoff
    on_error: ErrorPolicy = "fail"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(self.schema, inputs[0].timed)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _MapAsyncOperator(self, ctx)

    def describe(self) -> str:
        order = "ordered" if self.ordered else "unordered"
        return f"{getattr(self.function, '__name__', '')} ({order}, {self.capacity} at once)"


class _MapAsyncOperator(AsyncOperator):
    def __init__(self, spec: MapAsync, ctx: OperatorContext) -> None:
        self._spec = spec
        self._clock = ctx.clock
        self._guard = Guard(ctx.operator_id, spec.on_error, ctx.metrics)

    async def process_async(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = rows_of(batch)
        room = asyncio.Semaphore(self._spec.capacity)
        results: dict[int, Any] = {}
        bad: list[RecordError] = []

        async def one(index: int, value: Any) -> None:
            async with room:
                try:
                    results[index] = await self._request(value)
                except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the record's error
                    error = self._guard.error(cause, value)
                    error.__cause__ = cause
                    bad.append(error)

        async with asyncio.TaskGroup() as group:
            for index, value in enumerate(rows.values):
                group.create_task(one(index, value))
        self._guard.bad(bad, out)
        # A dict keeps the order in which requests were answered.
        order = sorted(results) if self._spec.ordered else list(results)
        times = None if rows.times is None else [rows.times[index] for index in order]
        out.emit(RowBatch([results[index] for index in order], times))

    async def _request(self, value: Any) -> Any:
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(self._spec.timeout / 1e6):
                    return await self._spec.function(value)
            except Exception as error:
                if attempt >= self._spec.retries.retries:
                    if isinstance(error, TimeoutError):
                        raise RecordError(
                            f"no answer within {self._spec.timeout / 1e6:g} s, {attempt + 1} times",
                            record=value,
                            hint="raise timeout=, or give retries=sf.backoff(n)",
                        ) from error
                    raise
            await self._clock.sleep(self._spec.retries.pause(attempt) / 1e6)
            attempt += 1
