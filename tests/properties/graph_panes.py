"""The rows that the panes of one window of a random job graph come to, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tests.properties.graph_programs import ADDED, Step
from tests.properties.pane_laws import counted
from tests.properties.trigger_model import Fired

__all__ = ["settled"]

Row = dict[str, Any]
_INFO = ("pane_timing", "pane_index", "is_first", "is_last")


def settled(step: Step, rows: Sequence[Row]) -> list[Row]:
    """A row for each window of a key, or the changes as they are; raises AssertionError where the panes of a window are
    not numbered right."""
    panes: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("change", "insert") in ("insert", "update_after"):
            panes[_place(step, row)].append(row)
    if step["panes"]:
        for each in panes.values():
            problem = counted([_told(row) for row in each])
            assert problem is None, problem
    bare = [{name: row[name] for name in row if name not in _INFO} for row in rows]
    if step["trigger"] is None or step["accumulation"] == "retracting":
        # Where each window fires once and only inserts come, a second pane shows as a row too many.
        return bare
    grown = step["window"][0] == "session"
    last: dict[tuple[Any, ...], Row] = {}
    for row in bare:
        place = _place(step, row)
        if grown:
            place = max((other for other in panes if _within(place, other)), key=lambda at: at[-1] - at[-2])
        before = last.get(place)
        if step["accumulation"] == "discarding" and before is not None:
            added = {name: before[name] + row[name] for name in row if name in ADDED}
            bounds = (
                max(before, row, key=lambda each: each["window_end"] - each["window_start"]) if grown else row
            )
            last[place] = {**bounds, **added}
        elif before is None or not grown or _place(step, row) == place:
            last[place] = row
    return list(last.values())


def _place(step: Step, row: Row) -> tuple[Any, ...]:
    """The key and the bounds of a row's window."""
    keys = tuple(str(row[key]) for key in step["keys"])
    return (*keys, row["window_start"], row["window_end"]) if "window_start" in row else keys


def _within(place: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return place[:-2] == other[:-2] and other[-2] <= place[-2] and place[-1] <= other[-1]


def _told(row: Row) -> Fired:
    return Fired("insert", "", 0, 0, row["count"], 0, *(row[name] for name in _INFO))
