"""The names that users' columns have inside an operator that adds columns of its own and hands names to Polars."""

from __future__ import annotations

from collections.abc import Iterable

from streamflow.core.schema import key_column

__all__ = ["inner_name", "other_inside"]


def inner_name(name: str) -> str:
    """The name of a user's column inside an operator: its own, unless an operator's column might have it, or Polars
    would take it for a pattern of names.

    >>> inner_name("origin"), inner_name("__n") == "__n", inner_name("*") == "*"
    ('origin', False, False)
    """
    return key_column(name, taken=(name,) if name.startswith(("*", "^")) else ())


def other_inside(names: Iterable[str]) -> dict[str, str]:
    """The inner names of those columns that have another one inside.

    >>> list(other_inside(["origin", "*"]))
    ['*']
    """
    return {name: inside for name in names if (inside := inner_name(name)) != name}
