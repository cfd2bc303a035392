"""`sf.source`: a Python asynchronous generator as a source."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from streamflow.core.batch import RowBatch
from streamflow.core.copies import copied_with_size
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Objects, Schema, StreamSchema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, SourceError, StreamflowError, Where
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.connectors.row_frames import frame_of_rows
from streamflow.operators.contract.source import (
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
from streamflow.user_code import awaited_failure, described, line_of_error

__all__ = ["GeneratorSource", "source"]

_MOST_AHEAD: Final = 4096
_MOST_BYTES: Final = 4 << 20
"""The approximate bytes that may wait to be taken: a generator of large records is held back sooner."""

Generator = Callable[..., AsyncIterator[Any]]


def source(
    function: Generator, *, schema: Mapping[str, Any] | Objects | None = None, bounded: bool = False
) -> GeneratorSource:
    """A source that runs an asynchronous generator function, once per job run, in one subtask.

    It yields Python objects, or rows (dicts) with the columns of `schema`. Records are passed on as soon as the
    generator waits for something. `bounded=True` promises that it ends.

    A generator cannot go back, so a job with checkpoints needs one that can begin anywhere: a function with a
    parameter `start` is called with the number of records taken from it before, 0 at first, and continues behind
    them.

    Raises JobDefinitionError for anything but an asynchronous generator function, SourceError when it raises.

    >>> async def numbers(start):
    ...     for n in range(start, 3):
    ...         yield {"n": n}
    >>> source(numbers, bounded=True).describe(), source(numbers, bounded=True).replayable
    ('source(numbers)', True)
    """
    given: object = function
    if not callable(given) or not _may_generate(given):
        raise JobDefinitionError(
            f"source got {function!r}", hint="give a function that is written async def … yield …"
        )
    known = schema if schema is None or isinstance(schema, Objects) else Schema(schema)
    return GeneratorSource(function, OBJECTS if known is None else known, bounded, _starts(function))


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorSource(Source):
    """The source that `source` makes."""

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
                f"the generator {_name(self.function)} cannot continue behind row {rows}",
                where=Where(split=split.id),
                hint="give it a parameter `start`: how many records were taken from it before",
            )
        return _GeneratorReader(self, split, rows, ctx)

    def run(self, start: int) -> AsyncIterator[Any]:
        """The generator, from record number `start` on."""
        return self.function(start=start) if self.starts else self.function()

    def describe(self) -> str:
        return f"source({_name(self.function)})"


class _Ahead:
    """Records that a generator has yielded and no fetch has taken yet, limited by number and bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: list[Any] = []
        self._bytes = 0
        self._some = asyncio.Event()
        """Set when there is a record to take, or no more will come."""
        self._room = asyncio.Event()
        self._ended = False

    async def put_all(self, values: AsyncIterator[Any]) -> None:
        """Adds the generator's values, each as soon as there is room for it."""
        async for value in values:
            own, nbytes = copied_with_size(value)  # The value may be the same object, changed, each time.
            waiting = self._values
            waiting.append(own)
            self._bytes += nbytes
            if len(waiting) == 1:
                self._some.set()
            if len(waiting) == self._most or self._bytes >= _MOST_BYTES:
                self._room.clear()
                await self._room.wait()

    def end(self) -> None:
        """Tells waiting readers that no more will come."""
        self._ended = True
        self._some.set()

    async def take(self) -> tuple[list[Any], int]:
        """All waiting records, as soon as there is one, and their estimated bytes; nothing at the end."""
        await self._some.wait()
        taken = self._values, self._bytes
        self._values, self._bytes = [], 0
        if not self._ended:
            self._some.clear()
        self._room.set()
        return taken


class _GeneratorReader:
    """A reader whose own task runs the generator ahead of the fetches; a fetch takes the waiting records."""

    def __init__(self, gen: GeneratorSource, split: Split, rows: int, ctx: SourceContext) -> None:
        self._gen = gen
        self._split = split.id
        self._first = rows
        self._rows = rows
        self._ctx = ctx
        self._ahead = _Ahead(min(ctx.batch_rows, _MOST_AHEAD))
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    async def fetch(self) -> Fetch | None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        values, nbytes = await self._ahead.take()
        if values:
            first, self._rows = self._rows, self._rows + len(values)
            return Fetch(partial(self._decode, first, values), {"rows": self._rows}, nbytes)
        if self._error is not None:
            raise _failure(self._error, self._gen.function) from self._error
        return None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        generator: AsyncIterator[Any] | None = None
        try:
            try:
                generator = self._gen.run(self._first)
                await self._ahead.put_all(generator)
            finally:
                if inspect.isasyncgen(generator):
                    await generator.aclose()
        except BaseException as raised:  # noqa: BLE001 — the user's code may raise anything
            # Handed to the next fetch, behind everything that was yielded before.
            self._error = awaited_failure(raised)
        self._ahead.end()

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
        # Some callables that are not written in Python do not tell.
        return False


def _name(function: Generator) -> str:
    return str(getattr(function, "__name__", "generator"))


def _may_generate(function: Callable[..., object]) -> bool:
    """Whether calling it may give an asynchronous iterator: a function says so by `yield` or by its annotation; a
    lambda, and objects that are called, do not tell."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        return False
    whole = inspect.unwrap(function)
    if not (inspect.isfunction(whole) or inspect.ismethod(whole)) or whole.__name__ == "<lambda>":
        return True
    said = str(inspect.signature(whole).return_annotation)
    return inspect.isasyncgenfunction(whole) or "Async" in said
