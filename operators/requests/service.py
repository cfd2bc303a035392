"""`Service`: the function of `map_async` in one subtask; it may be an object that is opened and closed.

An object with a coroutine method `__call__` may have `open` and `close`, coroutine methods or plain ones: a place for
an HTTP session or a pool of connections. Each subtask works with a copy of the object.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamflow.errors import JobDefinitionError, StreamflowError, Where
from streamflow.operators.stateless.user_functions import RowMaker
from streamflow.user_code import awaited_failure, described, line_of_error, raised_by_user

__all__ = ["Service", "failed"]


@dataclass(frozen=True, slots=True)
class Service:
    """One subtask's function; `make` makes the rows that it is annotated with."""

    function: Callable[[Any], Any]
    make: RowMaker | None

    @staticmethod
    def of(function: Callable[[Any], Any], make: RowMaker | None) -> Service:
        """The service of a function, or of a copy of an object with `open` or `close`; raises JobDefinitionError if
        copying fails."""
        if inspect.isroutine(function) or not (hasattr(function, "open") or hasattr(function, "close")):
            return Service(function, make)
        try:
            return Service(copy.deepcopy(function), make)
        except BaseException as raised:
            raise JobDefinitionError(
                f"{type(function).__name__} cannot be copied for a subtask: {described(raised_by_user(raised))}",
                hint="make connections and the like in its open()",
            ) from raised

    @property
    def opens(self) -> bool:
        """Whether it has to be opened."""
        return not inspect.isroutine(self.function) and hasattr(self.function, "open")

    async def call(self, row: Any) -> Any:
        """Calls the function once. Raises its exceptions."""
        given = self.function(row if self.make is None else self.make(row))
        if not inspect.isawaitable(given):
            raise StreamflowError(f"it gave a {type(given).__name__} at once; write it async def, or use map")
        return await given

    async def open(self) -> None:
        """Calls the object's `open`."""
        await self._do("open")

    async def close(self) -> None:
        """Calls the object's `close`, if it has one; raises StreamflowError if that fails."""
        try:
            await self._do("close")
        except BaseException as raised:
            raise failed(self.function, "close", awaited_failure(raised)) from raised

    async def _do(self, name: str) -> None:
        method = None if inspect.isroutine(self.function) else getattr(self.function, name, None)
        if callable(method):
            done = method()
            if inspect.isawaitable(done):
                await done


def failed(function: object, what: str, cause: BaseException) -> StreamflowError:
    """The operator's error, made of an exception of `open` or `close`."""
    error = StreamflowError(
        f"{type(function).__name__}.{what} raised {described(cause)}", where=Where(code=line_of_error(cause))
    )
    error.__cause__ = cause
    return error
