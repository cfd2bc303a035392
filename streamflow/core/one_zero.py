"""Values in which zero has no sign and there is one NaN: what Polars takes for equal then looks equal."""

from __future__ import annotations

from typing import Final, cast

__all__ = ["NAN", "with_one_zero"]

NAN: Final = float("nan")
"""The one NaN: dictionaries find it, since it is the same object."""


def with_one_zero(value: object) -> object:
    """The value with 0.0 for -0.0 and `NAN` for every NaN in its lists and dicts, at any depth.

    >>> with_one_zero({"a": [-0.0, 1, None]})
    {'a': [0.0, 1, None]}
    """
    if isinstance(value, list):
        return [with_one_zero(each) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: with_one_zero(each) for name, each in cast("dict[object, object]", value).items()}
    if isinstance(value, float):
        return NAN if value != value else value + 0.0
    return value
