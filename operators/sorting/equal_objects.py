"""Python records as keys: equal records have equal bytes, whatever the order of their fields."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from itertools import chain
from typing import Any

from streamflow.state.keyed.cache import key_bytes

__all__ = ["record"]


def record(value: Any) -> bytes:
    """A record as a key.

    >>> record({"a": 1, "b": [2]}) == record({"b": [2.0], "a": 1}), record([1]) == record((1,))
    (True, False)
    """
    # Each level as bytes by itself: levels of levels would nest deeper than what is packed may.
    match value:
        case dict():
            pairs = sorted((key_bytes(name), record(each)) for name, each in value.items())
            return key_bytes(("dict", *chain.from_iterable(pairs)))
        case list():
            return key_bytes(("list", *map(record, value)))
        case tuple():
            return key_bytes(("tuple", *map(record, value)))
        case _:
            return key_bytes(value)
