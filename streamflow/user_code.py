"""User code: the exceptions of a user's function, their text, and the line of the user's file that they came from.

The rule for every call of a user's function: an exception is the error of its record (or of its operator), treated by
the operator's policy. That includes those that `except Exception` does not catch: SystemExit, GeneratorExit,
CancelledError, Polars' PanicException. It includes StopIteration, which would silently end the loop around the call.
Only a KeyboardInterrupt goes on: the person at the terminal raised it, not the function.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import functools
import inspect
from types import CodeType, TracebackType
from typing import Any

from streamflow.errors import ElsewhereError, RecordError, StreamflowError, Where, cut
from streamflow.user_lines import is_users, shown_path

__all__ = [
    "awaited_failure",
    "described",
    "line_of_definition",
    "line_of_error",
    "raised_by_user",
    "user_error",
]


def raised_by_user(error: BaseException) -> BaseException:
    """The error of a synchronous call of user code, to be treated as its record's; raises a KeyboardInterrupt again.

    >>> def first(row):
    ...     return next(iter(row))
    >>> try:
    ...     first([])
    ... except BaseException as error:
    ...     described(raised_by_user(error))
    'StopIteration'
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    return error


def user_error(
    what: str, raised: BaseException, *, record: Any = None, hint: str | None = None
) -> StreamflowError:
    """The error of a synchronous call of user code, `what` by name; a StreamflowError is kept. Raises a
    KeyboardInterrupt again.

    >>> user_error("reduce", KeyError("origin")).message
    "reduce raised KeyError: 'origin'"
    """
    cause = raised_by_user(raised)
    if isinstance(cause, StreamflowError):
        return cause
    where = Where(code=line_of_error(cause))
    return RecordError(f"{what} raised {described(cause)}", record=record, where=where, hint=hint)


def awaited_failure(error: BaseException) -> BaseException:
    """The error of awaited user code, as `raised_by_user`; raises a CancelledError again if the running task itself
    has been asked to cancel."""
    if isinstance(error, asyncio.CancelledError) and _asked_to_cancel():
        raise error
    return raised_by_user(error)


def _asked_to_cancel() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        # Threads beside the event loop run no task.
        return False
    return task is not None and task.cancelling() > 0


def described(error: BaseException) -> str:
    """An error as one text, cut; also if its own `__str__` raises.

    >>> described(KeyError("origin")), described(StopIteration())
    ("KeyError: 'origin'", 'StopIteration')
    """
    if isinstance(error, ElsewhereError):
        return error.described
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001 — an exception's own text is user code, too
        raised_by_user(failure)
        return f"{name} (its text raised {type(failure).__name__})"
    return f"{name}: {cut(text)}" if text else name


def line_of_error(error: BaseException) -> str | None:
    """The innermost line of the user's own files that an error passed through, as `file:line in function`.

    None where it passed through none.
    """
    frame: TracebackType | None = error.__traceback__
    found: str | None = None
    while frame is not None:
        code = frame.tb_frame.f_code
        if is_users(code, frame.tb_frame.f_globals):
            found = f"{shown_path(code.co_filename)}:{frame.tb_lineno} in {code.co_name}"
        frame = frame.tb_next
    if found is None and error.__cause__ is not None:
        # A generator's StopIteration comes as the cause of a RuntimeError.
        return line_of_error(error.__cause__)
    return found


def line_of_definition(function: object) -> str | None:
    """The place of a user's function or class, as `file:line in function`; None for one that is not in Python, or is
    this package's or a library's."""
    code = _code(function)
    if code is None or not is_users(code, {"__name__": getattr(function, "__module__", None)}):
        return None
    return f"{shown_path(code.co_filename)}:{code.co_firstlineno} in {code.co_name}"


def _code(function: object) -> CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    unwrapped: Any = function
    if callable(unwrapped):
        unwrapped = inspect.unwrap(unwrapped)
    if not inspect.isroutine(unwrapped):
        unwrapped = getattr(type(unwrapped), "__call__", None)  # noqa: B004 — its own method, to see where it is
    unwrapped = getattr(unwrapped, "__func__", unwrapped)
    code: CodeType | None = getattr(unwrapped, "__code__", None)
    return code
