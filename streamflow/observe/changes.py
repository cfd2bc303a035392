"""Changes of a worker's metrics on the way to the coordinator's registry, whose series show the whole job.

A worker's registry begins at zero with each attempt. A series is declared once, with a number, and its changes name
the number only: differences of counters, values of gauges.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Changes", "Declared"]


class Declared(msgspec.Struct, frozen=True):
    """A series by its number in one worker's attempt. `at`: its operator and subtask; None: it is of the process."""

    number: int
    at: tuple[str, int] | None
    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: dict[str, str]
    """The labels beside those of the operator and the subtask."""


class Changes(msgspec.Struct, frozen=True):
    """Everything that has changed since the last time: new series, amounts to add to counters and values of gauges by
    the numbers of their series, and the numbers of series that are gone."""

    declared: tuple[Declared, ...] = ()
    values: dict[int, float] = {}
    removed: tuple[int, ...] = ()
