"""The Python functions of W1fn, called alike by streamflow's program and by the hand-written loop."""

from typing import Any, TypedDict


class Reading(TypedDict):
    """The result of `to_reading` for an event."""

    key: str
    value: float


def is_wanted(row: dict[str, Any]) -> bool:
    """A filter that looks at a column and keeps everything, so that the result stays W1's."""
    kind: str = row["kind"]
    return kind != "bot"


def to_reading(row: dict[str, Any]) -> Reading:
    """A map that builds a new row."""
    return {"key": row["key"], "value": row["value"]}
