"""Final results of changing or repeated outputs, compared as multisets with a tolerance."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from streamflow.core.schema import CHANGE
from streamflow.core.stream_type import EVERY_CHANGE, WITHDRAWN
from streamflow.errors import JobDefinitionError, cut, unknown_name

__all__ = ["difference", "final_rows"]

_SHOWN: Final = 10
_DIGITS: Final = 8 * sys.float_info.epsilon
"""The relative difference that sums of the same numbers in another order may have, of the largest value."""


def final_rows(
    rows: Iterable[Any], key: Sequence[str] | None = None, *, changing: bool | None = None
) -> list[Any]:
    """Final rows: changes are applied to one another; with `key`, of several rows with the same the last counts.

    `changing` says whether the rows are changes, whose column `change` they lose; without it they are if that column
    holds kinds of change and nothing else. A withdrawal of a row that was never there is kept and shown as such.
    Raises JobDefinitionError for a key that rows do not have.

    >>> final_rows([{"change": "insert", "k": "a", "n": 1}, {"change": "update_before", "k": "a", "n": 1},
    ...             {"change": "update_after", "k": "a", "n": 2}])
    [{'k': 'a', 'n': 2}]
    >>> final_rows([{"k": "a", "n": 1}, {"k": "b", "n": 5}, {"k": "a", "n": 2}], key=["k"])
    [{'k': 'a', 'n': 2}, {'k': 'b', 'n': 5}]
    """
    listed = list(rows)
    if changing is None:
        changing = all(isinstance(row, Mapping) and row.get(CHANGE) in EVERY_CHANGE for row in listed)
    if changing:
        listed = _applied(listed)
    if key is not None:
        latest: dict[Hashable, Any] = {}
        for row in listed:
            for name in key:
                if not isinstance(row, Mapping) or name not in row:
                    there = [str(each) for each in row] if isinstance(row, Mapping) else []
                    message, hint = unknown_name("column", name, there)
                    raise JobDefinitionError(f"key: {message}", hint=hint)
            latest[tuple(_frozen(row[name]) for name in key)] = row
        return list(latest.values())
    return listed


def difference(expected: Iterable[Any], actual: Iterable[Any], *, tolerance: float = 1e-9) -> str:
    """The difference between two multisets of rows as text; empty if they agree.

    Floats may differ by `tolerance`, relatively; if a sum cancels out to about 0, by the last digits of the largest
    value at the same place.

    >>> print(difference([{"k": "a", "x": 0.3}, {"k": "b", "x": 1.0}], [{"k": "a", "x": 0.1 + 0.2}]))
    missing 1: {'k': 'b', 'x': 1.0}
    """
    left, right = _grouped(expected), _grouped(actual)
    missing: list[Any] = []
    unexpected: list[Any] = []
    for exact in left.keys() | right.keys():
        ours, theirs = left.get(exact, []), right.get(exact, [])
        rounding = _rounding([*ours, *theirs])
        matched = 0
        while ours and theirs and matched < len(ours):
            floats, _ = ours[matched]
            partner = next(
                (i for i, (other, _) in enumerate(theirs) if _close(floats, other, tolerance, rounding)), None
            )
            if partner is None:
                matched += 1
                continue
            del ours[matched], theirs[partner]
        missing.extend(row for _, row in ours)
        unexpected.extend(row for _, row in theirs)
    return "\n".join([*_listed("missing", missing), *_listed("unexpected", unexpected)])


def _applied(rows: list[Mapping[str, Any]]) -> list[Any]:
    balance: Counter[Hashable] = Counter()
    shown: dict[Hashable, dict[str, Any]] = {}
    for row in rows:
        values = {name: value for name, value in row.items() if name != CHANGE}
        frozen = _frozen(values)
        shown.setdefault(frozen, values)
        balance[frozen] += -1 if row[CHANGE] in WITHDRAWN else 1
    applied: list[Any] = []
    for frozen, times in balance.items():
        row = shown[frozen] if times > 0 else {**shown[frozen], CHANGE: "withdrawn, and was never there"}
        applied.extend([row] * abs(times))
    return applied


def _grouped(rows: Iterable[Any]) -> dict[Hashable, list[tuple[list[float], Any]]]:
    """Rows by everything in them that is not a float, with the floats beside."""
    groups: dict[Hashable, list[tuple[list[float], Any]]] = {}
    for row in rows:
        floats: list[float] = []
        groups.setdefault(_frozen(row, floats), []).append((floats, row))
    return groups


def _frozen(value: Any, floats: list[float] | None = None) -> Hashable:
    """A value as something hashable; its floats go to `floats`, if given."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return tuple((name, _frozen(fields[name], floats)) for name in sorted(fields))
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        return tuple(_frozen(each, floats) for each in items)
    if isinstance(value, float):
        if floats is not None:
            floats.append(value)
            return "float"
        return "nan" if math.isnan(value) else value
    # To a dict True is 1 and 1 is True, which is never meant.
    return (type(value).__name__, value) if isinstance(value, Hashable) else repr(value)


def _rounding(rows: Sequence[tuple[list[float], Any]]) -> list[float]:
    """The last digits of the largest finite value at each place."""
    places = zip(*(floats for floats, _ in rows), strict=True)
    return [
        max((abs(each) for each in place if math.isfinite(each)), default=0.0) * _DIGITS for place in places
    ]


def _close(left: list[float], right: list[float], tolerance: float, rounding: list[float]) -> bool:
    return all(
        (math.isnan(a) and math.isnan(b))
        or math.isclose(a, b, rel_tol=tolerance, abs_tol=least if tolerance else 0)
        for a, b, least in zip(left, right, rounding, strict=True)
    )


def _listed(what: str, rows: list[Any]) -> list[str]:
    if not rows:
        return []
    lines = sorted(cut(row) for row in rows)[:_SHOWN]
    more = [f"  … and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return [f"{what} {len(rows)}: {lines[0]}", *(f"  {line}" for line in lines[1:]), *more]
