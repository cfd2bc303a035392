"""Checks of arguments whose type is not the signature's: an error names the argument, where Python's own would name
something inside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from streamflow.errors import JobDefinitionError, cut, represented

__all__ = ["chosen", "file_path", "flag", "instance", "mapping", "names", "text", "whole_number"]


def whole_number(value: object, what: str, *, least: int = 1) -> int:
    """A whole number; raises JobDefinitionError for anything else, True and 1.0 too.

    >>> whole_number(3, "capacity")
    3
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise JobDefinitionError(f"{what} is {value!r}", hint="write a whole number")
    if value < least:
        hint = "it must not be negative" if least == 0 else f"it must be at least {least}"
        raise JobDefinitionError(f"{what} is {value}", hint=hint)
    return value


def flag(value: object, what: str) -> bool:
    """True or False; raises JobDefinitionError for anything else, like "no".

    >>> flag(True, "has_header")
    True
    """
    if not isinstance(value, bool):
        raise JobDefinitionError(f"{what} is {value!r}", hint="write True or False")
    return value


def text(value: object, what: str) -> str:
    """A text that is not empty and has only printable characters; raises JobDefinitionError for anything else.

    >>> text("flights", "group_id")
    'flights'
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise JobDefinitionError(f"{what} is {_shown(value)}", hint="write a text")
    return value


def chosen(value: object, what: str, known: Iterable[str]) -> str:
    """One of the known texts; raises JobDefinitionError that lists them for anything else.

    >>> chosen("zstd", "compression", ("lz4", "zstd"))
    'zstd'
    """
    there = tuple(known)
    if not isinstance(value, str) or value not in there:
        raise JobDefinitionError(f"{what} is {_shown(value)}", hint=f"one of: {', '.join(there)}")
    return value


def mapping(value: object, what: str) -> dict[str, Any]:
    """A mapping whose keys are texts, as a dict; raises JobDefinitionError for anything else.

    >>> mapping({"partitions": 3}, "create")
    {'partitions': 3}
    """
    pairs = cast("Mapping[object, Any]", value)
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in pairs):
        raise JobDefinitionError(
            f"{what} is {_shown(pairs)}", hint='write a mapping from names, like {"name": …}'
        )
    return cast("dict[str, Any]", dict(pairs))


def instance(value: object, what: str, *kinds: type, hint: str) -> None:
    """Raises JobDefinitionError for a value of none of these types."""
    if not isinstance(value, kinds):
        raise JobDefinitionError(f"{what} is {_shown(value)}", hint=hint)


def file_path(value: object, what: str) -> str:
    """A path as text; raises JobDefinitionError for anything else.

    >>> file_path("ca.pem", "ca_file")
    'ca.pem'
    """
    path = os.fspath(cast("os.PathLike[str]", value)) if isinstance(value, os.PathLike) else value
    return text(path, what)


def names(value: object, what: str) -> tuple[str, ...]:
    """One text or several as a tuple; raises JobDefinitionError for anything else.

    >>> names("origin", "partition_by"), names(["a", "b"], "partition_by")
    (('origin',), ('a', 'b'))
    """
    given = (value,) if isinstance(value, str) else value
    listed = tuple(cast("Iterable[object]", given)) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(each, str) for each in listed):
        raise JobDefinitionError(f"{what} is {value!r}", hint="write one text, or a list of texts")
    return cast("tuple[str, ...]", listed)


def _shown(value: object) -> str:
    return cut(represented(value))
