"""The names that users' columns have inside an operator that adds columns of its own."""

from __future__ import annotations

from collections.abc import Iterable

from streamflow.core.schema import key_column

__all__ = ["inner_name", "other_inside"]


def inner_name(name: str) -> str:
    """The name of a user's column inside an operator: its own, unless an operator's column might have it.

    >>> inner_name("origin"), inner_name("__n") == "__n"
    ('origin', False)
    """
    return key_column(name)


def other_inside(names: Iterable[str]) -> dict[str, str]:
    """The inner names of those columns that have another one inside.

    >>> list(other_inside(["origin", "__n"]))
    ['__n']
    """
    return {name: inside for name in names if (inside := inner_name(name)) != name}
