"""A join of changing tables whose rows are forgotten, row by row in plain Python.

Rows of the result come and go by the rows that stand on the other side when a row comes or goes. A forgotten
row changes nothing; a row that had it for a partner has had one for good.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.properties.join_model import Pair, Row

ALONE = {"left": (True, False), "right": (False, True), "outer": (True, True), "anti": (True, False)}


@dataclass(eq=False)
class Standing:
    """A row on one side; `settled`: a partner of it has been forgotten."""

    row: Row
    settled: bool = False


class ForgettingJoin:
    """The result of a join of kind `how` after changes and watermarks."""

    def __init__(self, how: str, ttl: int) -> None:
        self._alone = ALONE.get(how, (False, False))
        self._pairs, self._semi = how not in ("semi", "anti"), how == "semi"
        self._ttl, self._width = ttl, max(1, ttl // 4)
        self._sides: tuple[list[Standing], list[Standing]] = [], []
        self.result: Counter[Pair] = Counter()

    def change(self, port: int, row: Row, sign: int) -> None:
        """A row comes (1) or goes (-1)."""
        if row.key is None:
            self._count(port, row, sign if self._alone[port] else 0)
            return
        side, others = self._sides[port], self._of(1 - port, row)
        settled = False
        if sign < 0:
            same = [each for each in side if each.row == row]
            if not same:
                return
            gone = min(same, key=lambda each: each.settled)
            settled = gone.settled
            side.remove(gone)
        for each in others if self._pairs else []:
            self.result[(row, each.row) if port == 0 else (each.row, row)] += sign
        partnered = bool(others) or settled
        self._count(port, row, sign * self._shown(port, partnered))
        if not self._of(port, row):  # the first to come, or the last to go
            for each in others:
                change = self._shown(1 - port, True) - self._shown(1 - port, False)
                self._count(1 - port, each.row, 0 if each.settled else sign * change)
        if sign > 0:
            side.append(Standing(row))

    def watermark(self, time: int) -> None:
        """Forgets the rows whose time is over."""
        for port, side in enumerate(self._sides):
            for gone in [each for each in side if self._end(each.row) <= time]:
                for each in self._of(1 - port, gone.row):
                    each.settled = True
                side.remove(gone)

    def _end(self, row: Row) -> int:
        return row.time - row.time % self._width + self._width + self._ttl

    def _of(self, port: int, row: Row) -> list[Standing]:
        return [each for each in self._sides[port] if each.row.key == row.key]

    def _shown(self, port: int, partnered: bool) -> int:
        """Whether a row of this side is in the result by itself, with a partner or without."""
        return int(partnered) if self._semi and port == 0 else int(self._alone[port] and not partnered)

    def _count(self, port: int, row: Row, weight: int) -> None:
        self.result[(row, None) if port == 0 else (None, row)] += weight
