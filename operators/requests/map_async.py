"""`MapAsync`: the one operator that awaits user coroutines: look-ups in services, several at once.

It stands at the head of its task. Requests are under way while the task goes on: they hold no barrier up (a
checkpoint has the unanswered inputs, which are asked again after a restore), and no watermark passes them. A request
that fails or times out is tried again as `Backoff` says, and is then a bad record under the error policy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, ClassVar, Final

from streamflow.arguments import whole_number
from streamflow.core.batch import RowBatch
from streamflow.core.copies import copied, own_result
from streamflow.core.elements import AnyBatch
from streamflow.core.schema import Schema, StreamSchema
from streamflow.core.serde import pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError, StateError, StreamflowError, Where, cut
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.operator import (
    AsyncOperator,
    Collector,
    ErrorPolicy,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSnapshot,
    OperatorSpec,
    StatePart,
)
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.requests.service import Service, failed
from streamflow.operators.requests.under_way import Request, Requests
from streamflow.operators.stateless.lone_halves import judged_batch, judges
from streamflow.operators.stateless.rows import columns_of, rows_of, seen
from streamflow.operators.stateless.user_functions import RowMaker, unfit_results
from streamflow.time.timestamps import MIN_TIME, Duration, format_time, parse_duration
from streamflow.user_code import awaited_failure, line_of_definition, line_of_error

__all__ = ["Backoff", "MapAsync", "backoff"]

_AHEAD: Final = 10
"""The number of inputs, in multiples of `capacity`, that may have been requested and not put out."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A number of retries; the pause before each is twice the one before. Microseconds."""

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
    return Backoff(
        whole_number(retries, "retries", least=0),
        parse_duration(first, what="the first pause", positive=True),
        parse_duration(longest, what="the longest pause", positive=True),
    )


@dataclass(frozen=True)
class MapAsync(OperatorSpec):
    """A coroutine function on each row, with up to `capacity` calls at once."""

    kind: ClassVar[str] = "map_async"
    on_changes: ClassVar[OnChanges] = "pass"
    asynchronous: ClassVar[bool] = True
    function: Callable[[Any], Any]
    schema: StreamSchema
    capacity: int
    ordered: bool
    timeout: int
    retries: Backoff
    on_error: ErrorPolicy = "fail"
    make_row: RowMaker | None = None
    """The function from a row's dict to the class that the function is annotated with; None for a dict."""

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return StreamType(self.schema, timed=False).layout

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(self.schema, inputs[0].timed)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _MapAsyncOperator(self, ctx, inputs)

    def own_function(self) -> Service:
        """The function of one subtask: a copy of its own, if the function is opened and closed."""
        return Service.of(self.function, self.make_row)

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
    def __init__(self, spec: MapAsync, ctx: OperatorContext, inputs: Sequence[StreamType]) -> None:
        self._judging = judges(inputs, spec.on_error)
        self._spec = spec
        self._clock = ctx.clock
        self._groups = ctx.groups
        self._marked = ctx.marks
        self._guard = Guard(ctx.operator_id, spec.on_error, ctx.metrics)
        self._requests = Requests(ordered=spec.ordered)
        # Results that wait for their turn take room, too, but do not keep other requests from being made at once.
        self._most = _AHEAD * spec.capacity
        self._unasked: deque[Request] = deque()
        self._asking: set[asyncio.Task[Any]] = set()
        self._news: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        """An exception that ended a request and is no error of its record: an interrupt."""
        self._passed: int | None = None
        """The watermark that has waited for the output collected last."""
        self._closed = False
        self._service = spec.own_function()
        self._opening: asyncio.Future[Any] | None = None
        """The function's `open`, begun with the first request; an error of it ends the job."""

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = rows_of(seen(batch, self._guard, out, changing=self._judging))
        times: Iterable[int | None] = repeat(None) if rows.times is None else rows.times
        marks: Iterable[int | None] = repeat(None) if rows.marks is None else rows.marks
        self._unasked.extend(map(self._requests.add, rows.values, times, marks))
        self._ask()

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        return self._requests.watermark(watermark)

    @property
    def output_watermark(self) -> int | None:
        return self._passed

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

    def collect(self, out: Collector) -> None:
        if self._failure is not None:
            raise self._failure
        taken = self._requests.take()
        self._passed = self._requests.passed()
        self._ask()
        if taken:
            batch = self._answers([request for request in taken if request.error is None], taken)
            self._guard.bad([self._bad(request) for request in taken if request.error is not None], out)
            out.emit(batch)

    def _answers(self, good: list[Request], taken: list[Request]) -> AnyBatch:
        """The answers as records; a value that the schema does not allow is its request's error."""
        timed = taken[0].time is not None
        times = [request.time for request in good if request.time is not None] if timed else None
        marks = [request.mark or MIN_TIME for request in good] if self._marked else None
        results = [request.result for request in good]
        schema = self._spec.schema
        rows = RowBatch(results, times, marks)
        batch: AnyBatch = rows
        misfits = unfit_results(results)
        if isinstance(schema, Schema):
            batch, others = columns_of(rows, schema)
            misfits = {**others, **misfits}
        for position, why in misfits.items():
            good[position].error = StreamflowError(why)
        if misfits:
            batch = batch.chosen([request.error is None for request in good])
        if self._judging:
            batch = judged_batch(batch, [request.number for request in good if request.error is None])
        return batch

    def waiting(self) -> tuple[Waiting, ...]:
        first = self._requests.first
        if first is None or first.began is None:
            return ()
        if self._opening is not None and not self._opening.done():
            what = "the function's open()"
        else:
            at = "" if first.time is None else f" of {format_time(first.time)}"
            again = f", asked {first.attempts} times so far," if first.attempts > 1 else ""
            what = f"the request for {cut(first.value)}{at}{again}"
        return (Waiting.under_way(what, first.began, len(self._requests)),)

    def snapshot(self) -> OperatorSnapshot:
        spans = self._requests.snapshot()
        try:
            # Packed at once, since they are few and the user's functions may hold on to parts of them.
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
                # The watermarks of several streams are different.
                spans = [(values, times, None) for values, times, *_ in spans]
            self._unasked.extend(self._requests.restore(spans))

    def close(self) -> None:
        self._closed = True
        for task in self._asking:
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()

    async def released(self) -> None:
        opening = self._opening
        await asyncio.gather(*filter(None, [opening]), *self._asking, return_exceptions=True)
        opened = opening is not None and not opening.cancelled() and opening.exception() is None
        if opened or not self._service.opens:
            await self._service.close()

    async def _opened(self) -> bool:
        """Waits until the function is open: the first request opens it."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._service.open())
        try:
            await asyncio.shield(self._opening)
        except BaseException as raised:  # noqa: BLE001 — whatever it raises is the operator's error
            self._failure = self._failure or failed(self._service.function, "open", awaited_failure(raised))
        return self._failure is None

    def _ask(self) -> None:
        """Begins as many requests as there is room for."""
        while (
            self._unasked
            and len(self._asking) < self._spec.capacity
            and len(self._requests) - len(self._unasked) < self._most
        ):
            request = self._unasked.popleft()
            request.began = self._clock.now()
            task = asyncio.get_running_loop().create_task(self._request(request))
            self._asking.add(task)
            task.add_done_callback(partial(self._answered, request))

    def _answered(self, request: Request, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if self._closed:
            return
        if task.cancelled():
            # By the function itself, which has found its own task.
            request.error = asyncio.CancelledError()
        else:
            self._failure = self._failure or task.exception()
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
        error.at(Where(code=line_of_definition(self._spec.function)))
        if error is not request.error and not self._spec.retries.retries:
            error.hint = f"retries=sf.backoff(3) would ask again; {error.hint}"
        return error

    async def _request(self, request: Request) -> None:
        """Asks until there is an answer or no retry left; the last exception is then the record's error."""
        if self._service.opens and not await self._opened():
            return
        retries = self._spec.retries
        attempt = 0
        while True:
            request.attempts = attempt + 1
            limit = asyncio.timeout(self._spec.timeout / 1e6)
            try:
                # Each attempt has a row of its own: changes of one attempt are neither asked again nor stored.
                row = copied(request.value)
                async with limit:
                    request.result = own_result(await self._service.call(row), row, held=0)
                    return
            except BaseException as raised:  # noqa: BLE001 — whatever a user's code raises is the record's error
                cause = awaited_failure(raised)
                if attempt >= retries.retries or not isinstance(cause, Exception):
                    request.error = self._given_up(cause, request, attempt + 1) if limit.expired() else cause
                    return
            await self._clock.sleep(retries.pause(attempt) / 1e6)
            attempt += 1

    def _given_up(self, cause: BaseException, request: Request, attempts: int) -> RecordError:
        error = RecordError(
            f"no answer within {self._spec.timeout / 1e6:g} s, {attempts} times",
            record=request.value,
            where=Where(code=line_of_error(cause)),
            hint="raise timeout=, or give retries=sf.backoff(n)",
        )
        error.__cause__ = cause
        return error
