"""The size from which a pane is divided into parts by a hash of its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamflow.state.frames.parts import Part

__all__ = ["Division"]

_LOOKED_UP: Final = 1 << 17
"""Rows; merging more than these at once takes long, which appending and looking up are not to do."""
_SORTED: Final = 1 << 18
"""The same for rows that nothing replaces, which are only sorted."""
_BATCHES: Final = 8
"""The number of batches whose rows a pane has in one part at least."""
_MOST: Final = 1 << 19
"""Rows; more are divided, however large batches are: the first small one would wait for all of them to be merged."""
_FORGOTTEN: Final = 8
"""The part, one in so many, of a large batch that each call after it forgets."""


class Division:
    """The division of the panes of one store, in which rows are `replacing` older ones of their key, or each is kept;
    `nbytes`: the bytes that can be worked on at a time.

    >>> from streamflow.state.frames.parts import Part
    >>> division, part = Division(1 << 20, replacing=False), Part(looked_up=True, tail_rows=300_000)
    >>> division.is_due(part)
    True
    >>> division.come(65_536)
    >>> division.is_due(part)
    False
    """

    def __init__(self, nbytes: int, *, replacing: bool) -> None:
        self._nbytes = nbytes
        self._replacing = replacing
        self._at_once = 0

    def come(self, rows: int) -> None:
        """Notes how many rows come, or are looked up, at once; for as long as some calls."""
        self._at_once = max(rows, self._at_once - self._at_once // _FORGOTTEN)

    def is_due(self, part: Part) -> bool:
        """Whether a part, the only one of its pane, has to be divided: not where batches are so large that all of it is
        gone over for each, which would cost more in many parts."""
        least = _LOOKED_UP if self._replacing else _SORTED
        most = max(least, min(_BATCHES * self._at_once, _MOST))
        return part.nbytes > self._nbytes or (part.looked_up and part.rows_in_memory > most)
