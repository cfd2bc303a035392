"""Conditions on earlier steps, judged for an event and a partial match at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import Collector
from streamflow.operators.patterns.automaton import Automaton, Holds, Path
from streamflow.operators.patterns.conditions import Dependent, OnSteps
from streamflow.operators.patterns.match_rows import EVENT
from streamflow.operators.patterns.references import Reference
from streamflow.operators.patterns.scalar import Scalar, values_of
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.user_code import raised_by_user

__all__ = ["DependentValues"]


class _Referred(NamedTuple):
    """A reference: the name of its column, its step, and the values of its column by row (empty for a count)."""

    name: str
    step: int
    values: Sequence[Any]
    reference: Reference

    def of(self, path: Path, row_of: Mapping[int, int]) -> Any:
        """The summary over the events of a path."""
        rows = [row_of[event] for step, event in path if step == self.step]
        values = self.values
        return self.reference.of([values[row] for row in rows] if values else rows)


class _Ready(NamedTuple):
    """A dependent condition with the values that it reads."""

    holds: Scalar
    columns: Sequence[tuple[str, Sequence[Any]]]
    referred: Sequence[_Referred]


class DependentValues:
    """The values that conditions on earlier steps read, for the events of a frame; no other values become Python's.

    An event for which such a condition raises is treated by the guard's policy, once; the condition does not hold then.
    """

    def __init__(
        self,
        dependents: Mapping[int, Dependent | OnSteps],
        automaton: Automaton,
        pool: pl.DataFrame,
        guard: Guard,
        out: Collector,
    ) -> None:
        self._pool = pool
        self._guard = guard
        self._out = out
        self._failed: set[int] = set()
        self._steps = [step.name for step in automaton.steps]
        self._records: dict[tuple[int, int], Any] = {}
        self._functions = {number: each for number, each in dependents.items() if isinstance(each, OnSteps)}
        steps = {name: number for number, name in enumerate(self._steps)}
        known: dict[str, list[Any]] = {}

        def column(name: str) -> Sequence[Any]:
            if name not in known:
                known[name] = values_of(pool[EVENT].struct.field(name))
            return known[name]

        self._ready = {
            number: _Ready(
                each.holds,
                [(name, column(name)) for name in each.columns],
                [
                    _Referred(r.name, steps[r.step], () if r.summary == "count" else column(r.column), r)
                    for r in each.references
                ],
            )
            for number, each in dependents.items()
            if isinstance(each, Dependent)
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
                if condition in self._functions:
                    return self._gives_true(condition, row, path, row_of)
                ready = self._ready.get(condition)
                return ready is None or self._is_true(ready, row, path, row_of)

            return is_true

        return judged

    def _is_true(self, ready: _Ready, row: int, path: Path, row_of: Mapping[int, int]) -> bool:
        values = {name: column[row] for name, column in ready.columns}
        for each in ready.referred:
            values[each.name] = each.of(path, row_of)
        try:
            return ready.holds(values) is True
        except BaseException as raised:  # noqa: BLE001 — Polars' panics are none of Exception's
            self._bad(row, raised, {name: self._pool[EVENT][row][name] for name, _ in ready.columns})
            return False

    def _gives_true(self, condition: int, row: int, path: Path, row_of: Mapping[int, int]) -> bool:
        """The same of a function."""
        record = None
        try:
            record = self._record(condition, row)
            taken: dict[str, list[Any]] = {name: [] for name in self._steps}
            for step, event in path:
                taken[self._steps[step]].append(self._record(condition, row_of[event]))
            return self._functions[condition](record, taken)
        except Exception as raised:  # noqa: BLE001 — whatever the user's function raises
            self._bad(row, raised, record)
            return False

    def _record(self, condition: int, row: int) -> Any:
        """The event of a row as the function takes it."""
        known = self._records
        if (condition, row) not in known:
            event = self._pool[EVENT].slice(row, 1)
            plain = event.item() if event.dtype == pl.Binary() else next(row_dicts(event.struct.unnest()))
            known[condition, row] = self._functions[condition].record(plain)
        return known[condition, row]

    def _bad(self, row: int, raised: BaseException, record: object) -> None:
        if row not in self._failed:
            self._failed.add(row)
            self._guard.bad([self._guard.error(raised_by_user(raised), record)], self._out)
