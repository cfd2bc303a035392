"""An aggregate written in Python, for all searches that want one."""

from __future__ import annotations

import streamflow as sf

__all__ = ["Spread"]


class Spread(sf.Aggregator):
    """The distance of the largest and the smallest value; 0 where there is none."""

    def create(self) -> list[int]:
        return []

    def add(self, accumulator: list[int], value: int | None) -> list[int]:
        return accumulator if value is None else self.merge(accumulator, [value])

    def merge(self, left: list[int], right: list[int]) -> list[int]:
        values = left + right
        return [min(values), max(values)] if values else []

    def result(self, accumulator: list[int]) -> int | None:
        return accumulator[1] - accumulator[0] if accumulator else 0
