"""`sf.source`: a Python asynchronous generator as a source."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from streamflow.errors import JobDefinitionError, RecordError, SourceError, StreamflowError, Where
from streamflow.operators.base import StreamType
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.connectors.row_frames import frame_of_rows
from streamflow.operators.source import (
    Decoded,
    Enumerator,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
    counted_in,
)
from streamflow.records.batch import RowBatch
from streamflow.records.copies import copied, size_of
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import OBJECTS, Objects, Schema, StreamSchema
from streamflow.user_code import awaited_failure, described, line_of_error

__all__ = ["GeneratorSource", "source"]

_MOST_AHEAD: Final = 4096
_MOST_BYTES: Final = 4 << 20
"""About so much waits to be taken: a generator of large records is held back sooner."""

Generator = Callable[..., AsyncIterator[Any]]


def source(
    function: Generator, *, schema: Mapping[str, Any] | Objects | None = None, bounded: bool = False
) -> GeneratorSource:
    """A source that runs an asynchronous generator function, once per job run, in one subtask.

    What it yields are Python objects, or rows (dicts) with the columns of `schema`. Records go on as soon as the
    generator waits for something. `bounded=True` promises that it ends.

    A generator cannot go back, so a job with checkpoints needs one that can begin anywhere: a function with a parameter
    `start` is called with the number of records that were taken from it before, 0 at first, and goes on behind them.

    Raises JobDefinitionError for anything but an asynchronous generator function, SourceError when it raises.

    >>> async def numbers(start):
    ...     for n in range(start, 3):
    ...         yield {"n": n}
    >>> source(numbers, bounded=True).describe(), source(numbers, bounded=True).replayable
    ('source(numbers)', True)
    """
    given: object = function
    wrong = inspect.iscoroutinefunction(given) or inspect.isgeneratorfunction(given)
    if wrong or not callable(given):
        raise JobDefinitionError(
            f"source got {function!r}", hint="give a function that is written async def … yield …"
        )
    known = schema if schema is None or isinstance(schema, Objects) else Schema(schema)
    return GeneratorSource(function, OBJECTS if known is None else known, bounded, _starts(function))


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorSource(Source):
    """What `source` makes."""

    function: Generator
    schema: StreamSchema = OBJECTS
    ends: bool = field(default=False)
    starts: bool = field(default=False)
    """Whether the function is told where to begin."""

    @property
    def bounded(self) -> bool:
        return self.ends

    @property
    def replayable(self) -> bool:
        return self.starts

    @property
    def input(self) -> Mapping[str, Any]:
        return {"function": _name(self.function)}

    def output_type(self) -> StreamType:
        return StreamType(self.schema, timed=False)

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return FixedSplits(Split(_name(self.function)))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        rows = 0 if position is None else counted_in(position, "rows")
        if rows and not self.starts:
            raise SourceError(
                f"the generator {_name(self.function)} cannot go on behind row {rows}",
                where=Where(split=split.id),
                hint="give it a parameter `start`: how many records were taken from it before",
            )
        return _GeneratorReader(self, split, rows, ctx)

    def run(self, start: int) -> AsyncIterator[Any]:
        """The generator, from that record on."""
        return self.function(start=start) if self.starts else self.function()

    def describe(self) -> str:
        return f"source({_name(self.function)})"


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


class _Waiting(asyncio.Queue[Any]):
    """Records that wait to be taken: so many, or so many bytes."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self.taken = 0
        """The size of the record that was taken last."""

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._sizes.append(size_of(item))
        self._bytes += self._sizes[-1]

    def _get(self) -> Any:
        self.taken = self._sizes.popleft()
        self._bytes -= self.taken
        return super()._get()

    def full(self) -> bool:
        return self._bytes >= _MOST_BYTES or super().full()


class _GeneratorReader:
    """A task of its own runs the generator into a bounded queue; a fetch takes what is there."""

    def __init__(self, gen: GeneratorSource, split: Split, rows: int, ctx: SourceContext) -> None:
        self._gen = gen
        self._split = split.id
        self._first = rows
        self._rows = rows
        self._ctx = ctx
        self._most = min(ctx.batch_rows, _MOST_AHEAD)
        self._queue = _Waiting(self._most)
        self._task: asyncio.Task[None] | None = None
        self._end: _End | None = None

    async def fetch(self) -> Fetch | None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        if self._end is None:
            values, nbytes = self._take(await self._queue.get())
            if values:
                first, self._rows = self._rows, self._rows + len(values)
                decode = partial(self._decode, first, values)
                return Fetch(decode, {"rows": self._rows}, nbytes)
        assert self._end is not None
        if self._end.error is not None:
            raise _failure(self._end.error, self._gen.function) from self._end.error
        return None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _take(self, first: Any) -> tuple[list[Any], int]:
        """What is there now, up to the end, and how many bytes that is about."""
        values: list[Any] = []
        nbytes, item = 0, first
        while True:
            if isinstance(item, _End):
                self._end = item
                return values, nbytes
            values.append(item)
            nbytes += self._queue.taken
            if len(values) == self._most or self._queue.empty():
                return values, nbytes
            item = self._queue.get_nowait()

    async def _run(self) -> None:
        error: BaseException | None = None
        generator: AsyncIterator[Any] | None = None
        try:
            try:
                generator = self._gen.run(self._first)
                async for item in generator:
                    await self._queue.put(copied(item))  # which may be the same object, changed, each time
            finally:
                if inspect.isasyncgen(generator):
                    await generator.aclose()
        except BaseException as raised:  # noqa: BLE001 — the user's code may raise anything
            # Handed to the next fetch, behind everything that was yielded before.
            error = awaited_failure(raised)
        await self._queue.put(_End(error))

    def _decode(self, first: int, values: list[Any]) -> Decoded:
        schema = self._gen.schema
        if not isinstance(schema, Schema):
            return Decoded(RowBatch(values))
        frame, problems = frame_of_rows(values, schema, self._ctx.columns)
        bad = [
            RecordError(what, record=values[at], where=Where(split=self._split, offset=f"row {first + at}"))
            for at, what in sorted(problems.items())
        ]
        if bad and self._ctx.on_error == "fail":
            raise bad[0]
        return Decoded(FrameBatch(frame), bad)


def _failure(error: BaseException, function: Generator) -> StreamflowError:
    if isinstance(error, StreamflowError):
        return error
    return SourceError(
        f"the generator {_name(function)} raised {described(error)}", where=Where(code=line_of_error(error))
    )


def _starts(function: Generator) -> bool:
    try:
        return "start" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        # Some callables that are not written in Python do not say.
        return False


def _name(function: Generator) -> str:
    return str(getattr(function, "__name__", "generator"))
