"""The conditions of a pattern: what can be judged of an event alone, in columns, and what depends on a partial match.

All conditions are numbered. Those of a batch's events are one column, `HOLDS`, in which bit n says whether condition n
holds. Of a condition that refers to earlier steps the bit says whether its other conjuncts hold; the rest, and a
function of earlier steps, is judged where the partial match is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import polars as pl

from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, unknown_name
from streamflow.operators.patterns.automaton import Automaton
from streamflow.operators.patterns.references import Reference
from streamflow.operators.patterns.scalar import Scalar, conjuncts, scalar
from streamflow.operators.stateless.columns import checked_type, roots

__all__ = ["HOLDS", "Conditions", "Dependent", "OnSteps"]

HOLDS: Final = "\x1aholds"
"""The column of the conditions that hold for an event, a bit for each."""
_MOST: Final = 62
_PREDICATE: Final = "predicate"


@dataclass(frozen=True, eq=False)
class Dependent:
    """The part of a condition that depends on a partial match; `columns` are those of the event that it reads."""

    holds: Scalar
    columns: tuple[str, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True, eq=False)
class OnSteps:
    """A condition that is a function of a record and of a dict with the list of records that each step has taken so
    far. `record` makes the function's record of an event, a dict of its columns or a packed object."""

    function: Callable[[Any, dict[str, list[Any]]], object]
    record: Callable[[Any], Any]

    def __call__(self, record: Any, steps: dict[str, list[Any]]) -> bool:
        return bool(self.function(record, steps))


class Conditions:
    """The conditions of an automaton over records, of which `columns` are those of an event.

    Raises JobDefinitionError for one that is no yes or no, or refers to a step that does not come before.
    """

    def __init__(self, automaton: Automaton, records: StreamType, columns: Collection[str]) -> None:
        assert isinstance(records.schema, Schema)
        self._automaton = automaton
        self._records = records
        self._schema = records.schema
        self._event = Schema({name: records.schema[name] for name in columns})
        if len(automaton.conditions) > _MOST:
            raise JobDefinitionError(
                f"the pattern has {len(automaton.conditions)} conditions", hint=f"{_MOST} at most"
            )
        self.dependents: dict[int, Dependent | OnSteps] = {}
        self._alone: list[pl.Expr] = []
        for number, (label, condition, _) in enumerate(automaton.conditions):
            alone = pl.lit(True)
            if isinstance(condition, OnSteps):
                self.dependents[number] = condition
            elif condition is not None:
                assert isinstance(condition, pl.Expr)
                alone = self._judged(number, label, condition)
            self._alone.append(alone)

    @property
    def expression(self) -> pl.Expr:
        """The column HOLDS."""
        bits = [
            pl.when(alone).then(pl.lit(1 << number, pl.Int64)).otherwise(pl.lit(0, pl.Int64))
            for number, alone in enumerate(self._alone)
        ]
        return reduce(lambda some, bit: some | bit, bits).alias(HOLDS)

    @property
    def begin(self) -> int:
        """The bits of the conditions of which one has to hold for an event to begin a match."""
        stages = self._automaton.stages
        return sum(1 << stages[start].condition for start in self._automaton.starts)

    def _judged(self, number: int, label: str, condition: pl.Expr) -> pl.Expr:
        """Checks a condition, notes its dependent part, and gives the rest."""
        read = roots(condition)
        if read is None:
            raise JobDefinitionError(
                f"the condition of {label} reads columns that it does not name",
                hint='name each, like col("amount")',
            )
        references = {name: found for name in sorted(read) if (found := Reference.named(name)) is not None}
        types = {name: self._type(label, number, reference) for name, reference in references.items()}
        self._check(label, condition, types)
        if not references:
            return condition
        parts = conjuncts(condition)
        alone = [part for part in parts if not references.keys() & set(part.meta.root_names())]
        rest = _all([part for part in parts if references.keys() & set(part.meta.root_names())])
        of_event = tuple(sorted(set(rest.meta.root_names()) - references.keys()))
        columns: Mapping[str, pl.DataType] = {name: self._event.need(name) for name in of_event}
        self.dependents[number] = Dependent(
            scalar(rest, {**columns, **types}), of_event, tuple(references.values())
        )
        return _all(alone) if alone else pl.lit(True)

    def _check(self, label: str, condition: pl.Expr, types: Mapping[str, pl.DataType]) -> None:
        before = StreamType(Schema({**self._schema, **types}), self._records.timed)
        dtype = checked_type(before, condition.alias(_PREDICATE))[_PREDICATE]
        if dtype not in (pl.Boolean(), pl.Unknown()):
            raise JobDefinitionError(
                f"the condition of {label} is a yes or no for each event, and {condition} is {dtype}",
                hint='compare it with something, like col("amount") > 0',
            )

    def _type(self, label: str, number: int, reference: Reference) -> pl.DataType:
        """The type of a reference, which has to be to a step before, or to the repetition that the condition is of."""
        names = [step.name for step in self._automaton.steps]
        if reference.step not in names:
            message, hint = unknown_name("step", reference.step, names)
            raise JobDefinitionError(f"the condition of {label} refers to another one: {message}", hint=hint)
        if names.index(reference.step) >= self._automaton.conditions[number].sees:
            raise JobDefinitionError(
                f"the condition of {label} refers to {reference.step!r}, of which it has no event yet",
                hint="refer to a step before it, or to its own repetition",
            )
        return reference.type(None if reference.summary == "count" else self._event.need(reference.column))


def _all(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return reduce(lambda some, other: some & other, conditions)
