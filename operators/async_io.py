"""`MapAsync`: the one operator that awaits user coroutines: look-ups in services, several at once.

It stands at the head of its task. Requests are under way while the task goes on: they hold no barrier up (a checkpoint
has the inputs that have not been answered, which are asked again after a restore), and no watermark passes them. A
request that fails or times out is tried again as `Backoff` says, and is then a bad record under the error policy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, ClassVar, Final

from streamflow.errors import JobDefinitionError, RecordError, StateError
from streamflow.operators.base import (
    AsyncOperator,
    Collector,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSnapshot,
    OperatorSpec,
    StatePart,
    StreamType,
)
from streamflow.operators.guard import DEAD_LETTER_TYPE, Guard
from streamflow.operators.requests import Request, Requests
from streamflow.operators.rows import rows_of
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.schema import Schema, StreamSchema
from streamflow.records.serde import pack, unpack
from streamflow.time.timestamps import Duration, parse_duration

__all__ = ["Backoff", "MapAsync", "backoff"]

_AHEAD: Final = 10
"""How many times `capacity` inputs may have been asked for and not put out."""


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

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any] | None:
        schema = inputs[0].schema
        columns = (
            {name: str(dtype) for name, dtype in schema.items()} if isinstance(schema, Schema) else "objects"
        )
        return {"input": columns}

    def describe(self) -> str:
        order = "ordered" if self.ordered else "unordered"
        return f"{getattr(self.function, '__name__', '')} ({order}, {self.capacity} at once)"


class _MapAsyncOperator(AsyncOperator):
    def __init__(self, spec: MapAsync, ctx: OperatorContext) -> None:
        self._spec = spec
        self._clock = ctx.clock
        self._groups = ctx.groups
        self._guard = Guard(ctx.operator_id, spec.on_error, ctx.metrics)
        self._requests = Requests(ordered=spec.ordered)
        # Results that wait for their turn take room, too, but do not keep others from being asked at once.
        self._most = _AHEAD * spec.capacity
        self._unasked: deque[Request] = deque()
        self._asking: set[asyncio.Task[Any]] = set()
        self._news: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        """What ended a request and is no matter of its record: a request to exit."""
        self._closed = False

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = rows_of(batch)
        times: Iterable[int | None] = repeat(None) if rows.times is None else rows.times
        self._unasked.extend(map(self._requests.add, rows.values, times))
        self._ask()

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        return self._requests.watermark(watermark)

    @property
    def accepting(self) -> bool:
        return not self._unasked

    @property
    def pending(self) -> asyncio.Future[None] | None:
        if self._requests.empty:
            return None
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
            if self._requests.takeable or self._failure is not None:
                self._news.set_result(None)
        return self._news

    def collect(self, out: Collector) -> int | None:
        if self._failure is not None:
            raise self._failure
        taken = self._requests.take()
        passed = self._requests.passed()
        self._ask()
        good = [request for request in taken if request.error is None]
        self._guard.bad([self._bad(request) for request in taken if request.error is not None], out)
        if good:
            timed = good[0].time is not None
            times = [request.time for request in good if request.time is not None] if timed else None
            out.emit(RowBatch([request.result for request in good], times))
        return passed

    def snapshot(self) -> OperatorSnapshot:
        spans = self._requests.snapshot()
        try:
            # Packed at once, since they are few and the user's functions may hold on to what is in them.
            return OperatorSnapshot({"requests": pack(spans)})
        except RecordError as error:
            raise StateError(
                f"a request under way cannot be stored: {error.message}",
                hint="give map_async rows of plain values: map them first",
            ) from error

    def restore(self, parts: Sequence[StatePart]) -> None:
        # Requests belong to no key: those of one subtask go on in the one that has its first key group.
        mine = [part for part in parts if part.groups.start in self._groups]
        for part in mine:
            spans = unpack(part.values["requests"])
            if len(mine) > 1:
                # Of several streams' watermarks none holds for all.
                spans = [(values, times, None) for values, times, _ in spans]
            self._unasked.extend(self._requests.restore(spans))

    def close(self) -> None:
        self._closed = True
        for task in self._asking:
            task.cancel()

    def _ask(self) -> None:
        """Begin as many requests as there is room for."""
        while (
            self._unasked
            and len(self._asking) < self._spec.capacity
            and len(self._requests) - len(self._unasked) < self._most
        ):
            request = self._unasked.popleft()
            task = asyncio.get_running_loop().create_task(self._request(request.value))
            self._asking.add(task)
            task.add_done_callback(partial(self._answered, request))

    def _answered(self, request: Request, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._closed:
            return
        if task.cancelled():
            request.error = RecordError("the function was cancelled", record=request.value)
        elif error is None:
            request.result = task.result()
        elif isinstance(error, Exception):
            # Whatever a user's code raises is the record's error.
            request.error = error
        else:
            self._failure = error
        waited = bool(self._unasked)
        takeable = self._requests.answered(request)
        self._ask()
        news = self._news
        if (
            news is not None
            and not news.done()
            and (takeable or self._failure or (waited and not self._unasked))
        ):
            news.set_result(None)

    def _bad(self, request: Request) -> RecordError:
        assert request.error is not None
        error = self._guard.error(request.error, request.value)
        if error is not request.error:
            error.__cause__ = request.error
        return error

    async def _request(self, value: Any) -> Any:
        attempt = 0
        while True:
            row = _own(value)
            try:
                async with asyncio.timeout(self._spec.timeout / 1e6):
                    return await self._spec.function(row)
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


def _own(value: Any) -> Any:
    """The row for one attempt: a function that changes it must not change what is asked again."""
    return copy(value) if value.__class__ is dict else value
