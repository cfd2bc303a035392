"""Conditions on earlier steps, judged for an event and a partial match at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import Collector
from streamflow.operators.patterns.automaton import Automaton, Holds, Path
from streamflow.operators.patterns.conditions import Dependent
from streamflow.operators.patterns.match_rows import EVENT
from streamflow.user_code import raised_by_user

__all__ = ["DependentValues"]


class DependentValues:
    """The values that conditions on earlier steps read, for the events of a frame; no other values become Python's.

    An event for which such a condition raises is treated by the guard's policy; the condition does not hold then.
    """

    def __init__(
        self,
        dependents: Mapping[int, Dependent],
        automaton: Automaton,
        pool: pl.DataFrame,
        guard: Guard,
        out: Collector,
    ) -> None:
        self._dependents = dependents
        self._guard = guard
        self._out = out
        self._stages = {stage.name: number for number, stage in enumerate(automaton.stages)}
        read = {
            name
            for each in dependents.values()
            for name in (*each.columns, *(reference.column for reference in each.references))
            if name
        }
        self._values: dict[str, list[Any]] = {
            name: pool[EVENT].struct.field(name).to_list() for name in sorted(read)
        }

    def of_key(self, row_of: Mapping[int, int], holds: Sequence[int]) -> Callable[[int], Holds]:
        """The conditions of a key's events, by their numbers. `row_of` gives the row of each, `holds` the bits of each
        row."""

        def judged(number: int) -> Holds:
            row = row_of[number]
            bits = holds[row]

            def is_true(condition: int, path: Path) -> bool:
                if not bits >> condition & 1:
                    return False
                dependent = self._dependents.get(condition)
                return dependent is None or self._is_true(dependent, row, path, row_of)

            return is_true

        return judged

    def _is_true(self, dependent: Dependent, row: int, path: Path, row_of: Mapping[int, int]) -> bool:
        values = {name: self._values[name][row] for name in dependent.columns}
        for reference in dependent.references:
            stage = self._stages[reference.step]
            taken: Sequence[Any] = [event for number, event in path if number == stage]
            if reference.column:
                column = self._values[reference.column]
                taken = [column[row_of[event]] for event in taken]
            values[reference.name] = reference.of(taken)
        try:
            return dependent.holds(values) is True
        except BaseException as raised:  # noqa: BLE001 — Polars' panics are none of Exception's
            shown = {name: self._values[name][row] for name in dependent.columns}
            self._guard.bad([self._guard.error(raised_by_user(raised), shown)], self._out)
            return False
