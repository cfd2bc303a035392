"""The needs of an operator on each of its inputs: the layout of batches, and the way of records to its subtasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamflow.core.batch import Layout

__all__ = ["FRAMES", "InputNeeds"]


@dataclass(frozen=True, slots=True)
class InputNeeds:
    """The needs of an operator on one input.

    `keys` are the columns by which records have to be partitioned: records with equal keys meet in one subtask,
    whichever input they come by. Of several inputs, each names its own columns (`left.k = right.key`). No columns: all
    records meet in one subtask; None: any distribution will do. `broadcast`: every subtask gets all records. `timed`:
    the input's event time counts, if it has any; of an input where it does not, only the end is told.

    >>> InputNeeds(Layout.FRAME, keys=("origin",)).broadcast
    False
    """

    layout: Layout = Layout.ANY
    keys: tuple[str, ...] | None = None
    broadcast: bool = False
    timed: bool = True


FRAMES: Final = InputNeeds(Layout.FRAME)
"""An input of frames, whatever their distribution."""
