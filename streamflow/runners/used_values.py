"""The values that a job's nodes hold and its functions use, as digests: by them a worker tells whether its import of
the file has made the same job.

A worker imports the file up to the line that runs the job. A global that is set under `if __name__ == "__main__":`, or
a second round of a loop, is not there: the functions would give other results, and nobody would notice. Digests are
compared and no values, which may be secrets. Left out is what a function may itself change: it differs without
harm. Of much data the beginning counts.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import dis
import re
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import blake2b
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Final, cast
from uuid import UUID

import polars as pl

from streamflow.errors import ConfigError
from streamflow.graph.logical import LogicalGraph, OperatorNode, SourceNode
from streamflow.user_lines import is_users, is_users_module

__all__ = ["check_values", "used_values"]

_MOST: Final = 10_000
"""The values of one node that are looked at."""
_PLAIN: Final = (
    *(type(None), bool, int, float, complex, str, bytes, date, time, timedelta, tzinfo, Decimal),
    *(UUID, PurePath, re.Pattern, range, pl.DataType),
)
"""Types whose values are the same if their texts are."""
_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")
_UNHASHED: Final = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    ImportError,
    TypeError,
    ValueError,
)
"""Errors raised for what has no digest."""
_CHANGING: Final = frozenset(
    [
        *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
        *("remove", "setdefault", "update"),
    ]
)
"""Methods that change a list, a set or a dict."""


def used_values(graph: LogicalGraph) -> dict[str, str]:
    """A digest of each value, by its node and name, as it is now."""
    used: dict[str, str] = {}
    for node in graph.nodes:
        look = _Look(node.id, used)
        match node:
            case SourceNode():
                look.note("", (node.source, node.timestamps, node.watermark))
            case OperatorNode():
                look.note("", node.spec)
            case _:
                look.note("", node.sink)
    return used


def check_values(mine: Mapping[str, str], coordinator: Mapping[str, str]) -> None:
    """Raises ConfigError, naming the first value that a worker has otherwise than the coordinator. Nodes and values
    that only one of them has are left to the comparison of the plans."""
    # A value with a name says more than the node that holds it.
    for name in sorted(coordinator.keys() & mine.keys(), key=lambda name: ("," not in name, name)):
        if mine[name] != coordinator[name]:
            raise ConfigError(
                f"the job is another one in a worker than where it was started: {name}",
                hint="workers import the file up to the line that runs the job: what its functions use has to be set "
                'there, not under if __name__ == "__main__":, in a later round of a loop, by the time or by chance',
            )


class _Look:
    """A look at what one node holds."""

    def __init__(self, node: str, used: dict[str, str]) -> None:
        self._node = node
        self._used = used
        self._seen: dict[int, object] = {}
        """Objects that have been looked at, by id; kept, so that no other has it."""
        self._left = _MOST

    def note(self, name: str, value: object) -> None:
        """Notes a value by its name."""
        digest = blake2b(digest_size=8)
        for text in self._texts(value):
            digest.update(text.encode("utf-8", "replace") + b"\n")
        at = f"{self._node}, {name}" if name else self._node
        # Two functions may have one name.
        self._used[at] = self._used.get(at, "") + digest.hexdigest()

    def _texts(self, value: object) -> Iterator[str]:
        """Texts that differ where the value does."""
        self._left -= 1
        if self._left < 0:
            return
        kind = type(value).__qualname__
        if isinstance(value, Enum):
            yield f"{kind} {value.name}"
        elif isinstance(value, _PLAIN):
            yield f"{kind} {value!r}"
        else:
            yield kind
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                yield from self._parts(value)

    def _all(self, values: Iterable[object]) -> Iterator[str]:
        for each in values:
            if self._left < 0:
                return
            yield from self._texts(each)

    def _parts(self, value: object) -> Iterator[str]:
        match value:
            case pl.DataFrame():
                yield from _of_frame(value)
            case pl.Series():
                yield from _of_frame(value.to_frame())
            case pl.Expr():
                yield _of_expression(value)
            case FunctionType():
                yield value.__qualname__
                self._function(value)
            case MethodType():
                yield from self._all((value.__func__, value.__self__))
            case partial():
                yield from self._all((value.func, value.args, value.keywords))
            case list() | tuple():
                values = cast("list[object]", value)
                yield str(len(values))
                yield from self._all(values)
            case set() | frozenset():
                yield from sorted("".join(self._texts(each)) for each in cast("set[object]", value))
            case dict():
                for each in cast("dict[object, object]", value).items():
                    yield from self._all(each)
            case type():
                yield value.__qualname__
                self._class(value)
            case _:
                yield from self._all(self._attributes(value))

    def _attributes(self, value: object) -> Iterator[object]:
        """The parts of an object that its class says, or the user has given it."""
        kind = type(value)
        parts: Mapping[str, object] = {}
        if _is_users(kind):
            self._class(kind)
            # What a method changes is the object's own affair.
            changed = {
                name
                for function in _functions(kind)
                if function.__name__ != "__init__"
                for name in _stored(function.__code__, "STORE_ATTR")
            }
            own = cast("dict[str, object]", getattr(value, "__dict__", {}))
            parts = {name: part for name, part in own.items() if name not in changed}
        elif is_dataclass(kind):
            parts = {field.name: getattr(value, field.name, None) for field in fields(kind)}
        elif isinstance(value, (Namespace, SimpleNamespace)):
            parts = vars(value)
        for each in parts.items():
            yield from each

    def _class(self, kind: type) -> None:
        """Notes what the methods of a user's class use."""
        for function in _functions(kind) if _is_users(kind) else ():
            if id(function) not in self._seen:
                self._seen[id(function)] = function
                self._function(function)

    def _function(self, function: FunctionType) -> None:
        """Notes what a function uses; of a function that is not the user's, the user's functions inside."""
        code, of = function.__code__, function.__qualname__
        users = is_users(code, function.__globals__)
        inside = list(_inside(code))
        names = {name for each in inside for name in each.co_names}
        changes = not _CHANGING.isdisjoint(names) or any(_changes_items(each) for each in inside)
        stored = {name for each in inside for name in _stored(each, "STORE_GLOBAL", "STORE_DEREF")}

        def note(name: str, value: object) -> None:
            if name not in stored and not (changes and isinstance(value, (list, dict, set))):
                self.note(f"{name} of {of}" if users else "", value)

        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # it is empty
                note(name, cell.cell_contents)
        if not users:
            return
        if function.__defaults__ or function.__kwdefaults__:
            self.note(f"defaults of {of}", (function.__defaults__, function.__kwdefaults__))
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if not isinstance(value, ModuleType):
                if not name.startswith("__"):
                    note(name, value)
            elif getattr(value, "__file__", None) and is_users_module(vars(value)):
                for part in sorted(names & vars(value).keys()):
                    note(f"{name}.{part}", vars(value)[part])


def _of_frame(frame: pl.DataFrame) -> Iterator[str]:
    yield f"{frame.height} {frame.schema}"
    # The numbers of categories are a process's own; objects have no hashes.
    if not any(_told_apart(dtype) for dtype in frame.dtypes):
        with suppress(*_UNHASHED):
            yield str(frame.hash_rows().to_frame().with_row_index("").hash_rows().sum())


def _told_apart(dtype: object) -> bool:
    return any(kind in str(dtype) for kind in ("Categorical", "Object"))


def _of_expression(expression: pl.Expr) -> str:
    """The text of an expression, and its bytes if no function is in it: the text leaves out most of a long list."""
    text = _ADDRESS.sub("", str(expression))
    if "python_udf" not in text:
        with suppress(*_UNHASHED):
            text += blake2b(expression.meta.serialize(), digest_size=8).hexdigest()
    return text


def _inside(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions in it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _inside(each)


def _stored(code: CodeType, *kinds: str) -> Iterator[str]:
    """The names that code stores to by these instructions."""
    for each in dis.get_instructions(code):
        if each.opname in kinds:
            yield each.argval


def _changes_items(code: CodeType) -> bool:
    return any(each.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") for each in dis.get_instructions(code))


def _is_users(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    return module is not None and is_users_module(vars(module))


def _functions(kind: type) -> Iterator[FunctionType]:
    """The user's functions in a class and those that it derives from."""
    for each in kind.__mro__:
        for value in vars(each).values() if _is_users(each) else ():
            inner = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(inner, FunctionType):
                yield inner
