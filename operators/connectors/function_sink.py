"""`sf.sink`: an asynchronous Python function as a sink."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.errors import SinkError, StreamflowError, Where
from streamflow.operators.contract.sink import Committable, Sink, SinkContext, SinkWriter
from streamflow.operators.stateless.rows import each_row
from streamflow.operators.stateless.user_functions import check_function
from streamflow.user_code import awaited_failure, described, line_of_definition, line_of_error

__all__ = ["FunctionSink", "sink"]

Write = Callable[[list[Any]], Awaitable[None]]


def sink(function: Write) -> FunctionSink:
    """A sink that awaits a function once for each batch, with a list of rows: dicts, or the objects of the stream.

    Batches may have any size; with several subtasks several calls are under way at once. Delivery is at least once:
    after a crash the function sees the rows since the last checkpoint again. Raises JobDefinitionError for anything
    but an asynchronous function, SinkError when it raises.

    >>> async def store(rows):
    ...     print(len(rows))
    >>> sink(store).describe()
    'sink(store)'
    """
    check_function(function, "sink", "coroutine")
    return FunctionSink(function)


@dataclass(frozen=True, slots=True, eq=False)
class FunctionSink(Sink):
    """The sink that `sink` makes."""

    function: Write

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _FunctionWriter(self.function)

    def describe(self) -> str:
        return f"sink({_name(self.function)})"


class _FunctionWriter:
    def __init__(self, function: Write) -> None:
        self._function = function

    async def write(self, batch: AnyBatch) -> None:
        if not len(batch):
            return
        rows = list(each_row(batch))
        try:
            answer = self._function(rows)
            if not inspect.isawaitable(answer):
                raise SinkError(
                    f"the function {_name(self._function)} gave a {type(answer).__name__}, which cannot be awaited",
                    where=Where(code=line_of_definition(self._function)),
                    hint="write it async def; what it did with these rows is done",
                )
            await answer
        except StreamflowError:
            raise
        except BaseException as raised:
            cause = awaited_failure(raised)
            raise SinkError(
                f"the function {_name(self._function)} raised {described(cause)}",
                where=Where(code=line_of_error(cause)),
                hint=f"it was given {len(rows)} rows",
            ) from raised

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        return ()

    async def close(self) -> None:
        """Closes nothing: the function holds its resources itself."""


def _name(function: Write) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
