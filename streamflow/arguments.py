"""Arguments of another type than the signature says: told by their names, where Python's own error would be about
something inside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from streamflow.errors import JobDefinitionError

__all__ = ["flag", "names", "whole_number"]


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
    """True or False; raises JobDefinitionError for what is only taken for one of them, like "no".

    >>> flag(True, "has_header")
    True
    """
    if not isinstance(value, bool):
        raise JobDefinitionError(f"{what} is {value!r}", hint="write True or False")
    return value


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
