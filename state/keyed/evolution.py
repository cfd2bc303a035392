"""The changes of a declared state under which old bytes can still be read: a record's field with a default may be
added.

Any other change (a missing field, another type, another state's name) would lose or misread stored values, so it is
refused and named. Flink's POJO evolution allows about as much; it drops removed fields silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from streamflow.errors import unknown_name
from streamflow.state.keyed.value_types import shown

__all__ = ["state_differences", "type_differences"]

_WORDS: Final[Mapping[str, str]] = {
    "kind": "kind of state",
    "version": "version",
    "ttl": "TTL's clock",
    "aggregator": "aggregator",
}


def state_differences(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Reasons why states kept under the signatures `saved` (by name) do not fit the declared ones; none if they fit.
    A new state starts empty.

    >>> old = {"total": {"kind": "value", "type": "int", "version": 1, "ttl": None}}
    >>> state_differences(old, {"total": old["total"] | {"type": "str"}})
    ["state 'total': its type was int and is str"]
    >>> state_differences(old, {"sum": old["total"]})
    ["state 'total' is no longer declared (declared are: sum)"]
    """
    problems: list[str] = []
    for name, before in saved.items():
        now = mine.get(name)
        if now is None:
            problems.append(f"state {name!r} is no longer declared {_declared(name, mine)}")
            continue
        what = f"state {name!r}"
        problems += [
            f"{what}: its {_WORDS.get(field, field)} was {before.get(field)!r} and is {now.get(field)!r}"
            for field in sorted({*before, *now} - {"type", "key"})
            if before.get(field) != now.get(field)
        ]
        problems += type_differences(before.get("key"), now.get("key"), f"{what}: its key type")
        problems += type_differences(before.get("type"), now.get("type"), f"{what}: its type")
    return problems


def _declared(name: str, mine: Mapping[str, Any]) -> str:
    _, hint = unknown_name("state", name, mine)
    near = f"; {hint}" if "mean" in hint else ""
    return f"(declared are: {', '.join(sorted(mine)) or 'none'}{near})"


def type_differences(saved: Any, mine: Any, what: str) -> list[str]:
    """Reasons why values of the type `saved` cannot be read as values of `mine`.

    >>> one = {"record": {"n": "int"}, "defaults": []}
    >>> two = {"record": {"n": "int", "at": "datetime"}, "defaults": ["at"]}
    >>> type_differences(one, two, "its type"), type_differences(two, one, "its type")
    ([], ["its type: field 'at' is gone"])
    """
    if saved == mine:
        return []
    if isinstance(saved, Mapping) and isinstance(mine, Mapping):
        return _record_differences(cast("Mapping[str, Any]", saved), cast("Mapping[str, Any]", mine), what)
    if isinstance(saved, (list, tuple)) and isinstance(mine, (list, tuple)):
        before, now = list(cast("list[Any]", saved)), list(cast("list[Any]", mine))
        if len(before) == len(now) and before[0] == now[0]:
            pairs = zip(before[1:], now[1:], strict=True)
            return [problem for old, new in pairs for problem in type_differences(old, new, what)]
    return [f"{what} was {shown(saved)} and is {shown(mine)}"]


def _record_differences(saved: Mapping[str, Any], mine: Mapping[str, Any], what: str) -> list[str]:
    before: Mapping[str, Any] = saved.get("record", {})
    now: Mapping[str, Any] = mine.get("record", {})
    problems = [f"{what}: field {name!r} is gone" for name in before if name not in now]
    for name, type_ in now.items():
        if name in before:
            problems += type_differences(before[name], type_, f"{what}: field {name!r}")
        elif name not in mine.get("defaults", ()):
            problems.append(f"{what}: field {name!r} is new and has no default")
    return problems
