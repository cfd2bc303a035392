"""The rule for what user code raises: what is the record's, what goes on, how it is told and where it came from."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import polars as pl
import pytest

from streamflow.user_code import (
    awaited_failure,
    described,
    line_of_definition,
    line_of_error,
    raised_by_user,
)

HERE = "tests/unit/test_user_code.py"


class Rude(BaseException):
    """An exception that no `except Exception` catches."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("it did not raise")


def thrower(error: BaseException) -> Callable[[], object]:
    def throw() -> object:
        raise error

    return throw


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(),
        StopAsyncIteration(),
        SystemExit(1),
        GeneratorExit(),
        asyncio.CancelledError(),
        Rude("x"),
        KeyError("x"),
        pl.exceptions.PanicException("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_function_raises_is_its_records(error: BaseException) -> None:
    assert raised_by_user(caught(thrower(error))) is error


def test_an_interrupt_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        raised_by_user(KeyboardInterrupt())


def test_a_cancellation_of_the_users_own_is_the_records() -> None:
    async def job() -> BaseException:
        try:
            raise asyncio.CancelledError
        except BaseException as error:  # noqa: BLE001
            return awaited_failure(error)

    assert isinstance(asyncio.run(job()), asyncio.CancelledError)


def test_a_task_that_was_asked_to_cancel_is_cancelled() -> None:
    async def waiting() -> None:
        try:
            await asyncio.sleep(3600)
        except BaseException as error:  # noqa: BLE001
            awaited_failure(error)

    async def job() -> bool:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(job())


def test_an_error_is_told_in_one_text() -> None:
    assert described(ValueError("no number")) == "ValueError: no number"
    assert described(SystemExit()) == "SystemExit"
    assert described(MuteError()) == "MuteError (its text raised SystemExit)"
    assert len(described(ValueError("x" * 10_000))) < 400


def test_the_innermost_line_of_the_users_files() -> None:
    def parse() -> object:
        return json.loads("{")

    line = line_of_error(caught(lambda: parse()))
    assert line == f"{HERE}:{parse.__code__.co_firstlineno + 1} in parse"
    assert line_of_error(ValueError("never raised")) is None


def test_neither_a_library_nor_streamflow_nor_made_code_is_the_users() -> None:
    @dataclass
    class Row:
        n: int

    for function in (lambda: json.loads("{"), lambda: Row()):  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        line = line_of_error(caught(function))
        assert line is not None
        assert line.startswith(HERE)


def test_compiled_code_of_a_library_is_not_the_users() -> None:
    # It says where it was compiled: msgpack/_packer.pyx.
    error = caught(lambda: msgpack.packb(object()))
    line = line_of_error(error)
    assert line is not None
    assert line.startswith(HERE)
    assert line_of_error(caught(functools.partial(msgpack.packb, object())).with_traceback(None)) is None


def test_neither_is_a_library_of_another_environment_or_what_attrs_makes() -> None:
    for file in ("/opt/env/lib/python3.12/site-packages/lib/a.py", "/usr/lib/python3/dist-packages/b.py"):
        made: dict[str, Any] = {"__name__": "lib"}
        exec(compile("def called():\n    raise ValueError", file, "exec"), made)  # noqa: S102
        assert str(line_of_error(caught(made["called"]))).startswith(HERE)
        assert line_of_definition(made["called"]) is None
    made = {}
    exec(compile("def called():\n    raise ValueError", "<attrs generated init a.B>", "exec"), made)  # noqa: S102
    assert str(line_of_error(caught(made["called"]))).startswith(HERE)


class Called:
    def __call__(self, row: Any) -> Any:
        return row

    def method(self, row: Any) -> Any:
        return row


def function(row: Any) -> Any:
    return row


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (function, "function"),
        (functools.partial(function, 1), "function"),
        (Called(), "__call__"),
        (Called().method, "method"),
        (lambda row: row, "<lambda>"),
        (functools.lru_cache(function), "function"),
    ],
)
def test_a_definition_is_found_behind_any_callable(what: object, name: str) -> None:
    line = line_of_definition(what)
    assert line is not None
    assert line.startswith(f"{HERE}:")
    assert line.endswith(f" in {name}")


def test_what_is_not_in_python_has_no_line() -> None:
    assert line_of_definition(len) is None


def test_nor_has_a_librarys() -> None:
    assert line_of_definition(json.loads) is None
