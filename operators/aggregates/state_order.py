"""The order of keys and aggregates in an operator's state, if a program names them in another order.

Partial aggregates go by position and keys are hashed in their order. A restored job keeps the order of its
checkpoint, whatever the order in the program; its output has the program's order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streamflow.windows.aggregate import Aggregate

__all__ = ["in_order", "keyed_differences", "keyed_order", "state_order"]


def keyed_differences(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Reasons why partials kept under one `keyed_signature` do not fit another, one for each name. Another order is
    no reason.

    >>> keyed_differences({"aggregates": {"n": "count as UInt32"}}, {"aggregates": {"m": "count as UInt32"}})
    ["aggregate 'm' has no state there", "aggregate 'n' has state there and is not in the program any more"]
    """
    problems: list[str] = []
    for field, what in (("keys", "key"), ("aggregates", "aggregate")):
        before, now = saved.get(field, {}), mine.get(field, {})
        problems += [f"{what} {name!r} has no state there" for name in now if name not in before]
        problems += [
            f"{what} {name!r} has state there and is not in the program any more"
            for name in before
            if name not in now
        ]
        problems += [
            f"{what} {name!r} was {before[name]} and is {now[name]}"
            for name in now
            if name in before and not _alike(before[name], now[name])
        ]
    return problems


def _alike(before: str, now: str) -> bool:
    """Whether two signatures name the same aggregate. Earlier versions numbered the columns that functions made.

    >>> _alike('sum(col("__in3")) as Int64', 'sum(col("__total: <lambda>")) as Int64')
    True
    >>> _alike('sum(col("__total: one")) as Int64', 'sum(col("__total: two")) as Int64')
    False
    """
    return before == now or (
        _NUMBERED.search(before) is not None and _NUMBERED.sub("", before) == _MADE.sub("", now)
    )


_NUMBERED: Final = re.compile(r'"__in\d+_*"')
_MADE: Final = re.compile(r'"__[^"]*"')


def state_order(names: Sequence[str], saved: Iterable[str]) -> tuple[str, ...]:
    """The names in a checkpoint's order; unchanged if the checkpoint has other names.

    >>> state_order(["k", "k2"], ["k2", "k"]), state_order(["k", "k2"], ["k2", "k3"])
    (('k2', 'k'), ('k', 'k2'))
    """
    before = tuple(saved)
    return before if sorted(before) == sorted(names) else tuple(names)


def keyed_order(
    keys: tuple[str, ...], aggregates: tuple[tuple[str, Aggregate], ...], saved: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a keyed aggregate's spec that change when its state is laid out like `saved`."""
    named = dict(aggregates)
    ordered = state_order(keys, saved.get("keys", ())), state_order(tuple(named), saved.get("aggregates", ()))
    if ordered == (keys, tuple(named)):
        return {}
    return {
        "keys": ordered[0],
        "aggregates": tuple((name, named[name]) for name in ordered[1]),
        "shown": (*keys, *named),
    }


def in_order(names: Sequence[str], shown: Sequence[str] | None) -> tuple[str, ...]:
    """The names in the order of `shown`, which may have further names; unchanged if it is None."""
    return tuple(names) if shown is None else tuple(name for name in shown if name in names)
