"""The automaton of a pattern: a stage for each step, and for each repetition of a group stages of its own.

The repetitions of a step are counted; those of a group are written out, as Flink's NFACompiler does, since a stage has
to say what may come behind it: `(a b){2} c` becomes `a b a b c`, and `(a b)+ c` becomes `a b (a b)* c`. The stages of
one step have its conditions and its column.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from streamflow.errors import JobDefinitionError
from streamflow.operators.patterns.automaton import Automaton, Stage, StepCondition, TakingStep
from streamflow.operators.patterns.pattern import Condition, Contiguity, Pattern, Step
from streamflow.time.timestamps import format_duration

__all__ = ["compiled"]

_MOST: Final = 10_000
"""The number of stages that a pattern has at most."""


def compiled(pattern: Pattern) -> Automaton:
    """The automaton of a pattern; raises JobDefinitionError if repetitions of groups make it too large.

    >>> from streamflow import col
    >>> from streamflow.operators.patterns.pattern import pattern
    >>> automaton = compiled(pattern("a", col("n") > 1).then("b").optional().next("c"))
    >>> [stage.onward for stage in automaton.stages], automaton.starts, automaton.strict
    ([(1, 2), (2,), ()], (0,), True)
    >>> automaton = compiled(pattern(pattern("a").then("b")).times(1, 2).then("c"))
    >>> [(automaton.steps[stage.step].name, stage.onward) for stage in automaton.stages]
    [('a', (1,)), ('b', (2, 4)), ('a', (3,)), ('b', (4,)), ('c', ())]
    """
    if (stages := sum(map(_stages, pattern.steps))) > _MOST:
        raise JobDefinitionError(
            f"the repetitions of groups make {stages:,} steps of the pattern",
            hint=f"repeat fewer times: {_MOST:,} at most",
        )
    compiling = _Compiling()
    whole = compiling.sequence(pattern.steps, "then", ())
    if pattern.time is not None and (longest := max(compiling.times, default=0)) > pattern.time:
        raise JobDefinitionError(
            f"{format_duration(longest)} between two events, and the whole pattern has {format_duration(pattern.time)}",
            hint="give steps a time that is shorter, or the pattern a longer one",
        )
    for number in whole.last:
        compiling.stages[number] = replace(compiling.stages[number], ends=True)
    awaits: Literal["next", "then"] | None = None
    if pattern.steps[-1].absent:
        awaits = "then" if compiling.stages[-1].absent else "next"
    return Automaton(
        tuple(compiling.stages),
        tuple(compiling.steps),
        tuple(compiling.conditions),
        tuple(number for number, _ in whole.first),
        awaits,
        pattern.time,
        pattern.steps[-1].within if pattern.steps[-1].absent else None,
        any(_forks(compiling.stages, number) for number in range(len(compiling.stages))),
    )


def _forks(stages: Sequence[Stage], number: int) -> bool:
    """Whether one step may take the event behind a stage in two ways."""
    stage = stages[number]
    behind = (number, *stage.onward) if stage.repeated else stage.onward
    return len({stages[after].step for after in behind}) < len(behind)


def _stages(step: Step) -> int:
    """The number of stages of a step."""
    if not step.steps:
        return 0 if step.absent else 1
    return _copies(step) * sum(map(_stages, step.steps))


def _copies(group: Step) -> int:
    return group.least + 2 if group.most is None else group.most


@dataclass(slots=True)
class _Part:
    """The stages of a step or of several: those that may take the first event, each with the time in which it has to
    come behind the event before, and those that may take the last one; `closing` are those behind which an absence
    counts: also of repetitions that are not enough."""

    first: tuple[tuple[int, int | None], ...]
    last: tuple[int, ...]
    closing: tuple[int, ...]
    optional: bool = False

    def in_time(self, time: int | None) -> tuple[tuple[int, int | None], ...]:
        """The first stages, each in this time at most."""
        if time is None:
            return self.first
        return tuple((number, time if own is None else min(own, time)) for number, own in self.first)


class _Compiling:
    """The parts of an automaton as they are made."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.steps: list[TakingStep] = []
        self.conditions: list[StepCondition] = []
        self.times: list[int] = []
        self._numbers: dict[tuple[Step, str], int] = {}
        self._columns: dict[Step, int] = {}

    def sequence(self, steps: Sequence[Step], follows: Contiguity, stops: tuple[int, ...]) -> _Part:
        """The stages of steps one behind the other. `follows`: what may come before the first event; `stops`: the
        conditions of events at which all of it ends."""
        whole: _Part | None = None
        latest = _Part((), (), ())
        for step in steps:
            if step.absent:
                self._absent(step, latest)
                continue
            latest = self._part(step, follows if whole is None else step.follows, stops)
            whole = latest if whole is None else self._joined(whole, latest)
        assert whole is not None
        return whole

    def _joined(self, before: _Part, after: _Part) -> _Part:
        self._connect(before.last, after.first)
        return _Part(
            before.first + after.first if before.optional else before.first,
            before.last + after.last if after.optional else after.last,
            after.closing,
            before.optional and after.optional,
        )

    def _part(self, step: Step, follows: Contiguity, stops: tuple[int, ...]) -> _Part:
        part = self._group(step, follows, stops) if step.steps else self._step(step, follows, stops)
        self.times += [time for time in (step.within, step.gap) if time is not None]
        return replace(part, first=part.in_time(step.within), optional=step.optional)

    def _step(self, step: Step, follows: Contiguity, stops: tuple[int, ...]) -> _Part:
        condition = self._number(step, step.condition, "", len(self.steps) + step.repeated)
        if step not in self._columns:
            self._columns[step] = len(self.steps)
            self.steps.append(TakingStep(step.name, step.repeated))
        until = None
        if step.until is not None:
            until = self._number(step, step.until, "until of ", len(self.steps))
        self.stages.append(
            Stage(
                step=self._columns[step],
                condition=condition,
                follows=follows,
                inner=step.inner,
                least=step.least,
                most=step.most,
                gap=step.gap,
                greedy=step.greedy,
                until=until,
                stops=stops,
            )
        )
        own = (len(self.stages) - 1,)
        return _Part(((own[0], None),), own, own)

    def _group(self, group: Step, follows: Contiguity, stops: tuple[int, ...]) -> _Part:
        steps, conditions = len(self.steps), len(self.conditions)
        if group.until is not None:
            stops = (*stops, self._number(group, group.until, "until of ", 0))
        copies = [self.sequence(group.steps, follows, stops)]
        more = group.least if group.most is None else group.most - 1
        copies += [self.sequence(group.steps, group.inner, stops) for _ in range(more)]
        for before, after in itertools.pairwise(copies):
            self._connect(before.last, after.in_time(group.gap))
        if group.most is None:
            again = copies[-1]
            if {number for number, _ in again.first} & set(again.last):
                # A stage behind itself is the repetition of its step.
                copies.append(self.sequence(group.steps, group.inner, stops))
                self._connect(again.last, copies[-1].in_time(group.gap))
            self._connect(copies[-1].last, again.in_time(group.gap))
        if group.repeated:
            # In a later repetition all steps of the group may have taken events.
            self.steps[steps:] = [step._replace(repeated=True) for step in self.steps[steps:]]
            self.conditions[conditions:] = [
                condition._replace(sees=len(self.steps)) for condition in self.conditions[conditions:]
            ]
        return _Part(
            copies[0].first,
            tuple(number for copy in copies[group.least - 1 :] for number in copy.last),
            tuple(number for copy in copies for number in copy.closing),
        )

    def _absent(self, step: Step, before: _Part) -> None:
        self.times += [step.within] if step.within is not None else []
        condition = self._number(step, step.condition, "not ", len(self.steps))
        stages = self.stages
        if step.follows == "next":
            for number in before.last:
                stages[number] = replace(stages[number], absent_next=condition)
        else:
            for number in before.closing:
                stages[number] = replace(stages[number], absent=(*stages[number].absent, condition))

    def _connect(self, before: Sequence[int], after: Sequence[tuple[int, int | None]]) -> None:
        onward, times = tuple(number for number, _ in after), tuple(time for _, time in after)
        for number in before:
            stage = self.stages[number]
            self.stages[number] = replace(stage, onward=stage.onward + onward, times=stage.times + times)

    def _number(self, step: Step, condition: Condition | None, what: str, sees: int) -> int:
        """The number of a condition, the same for all stages of a step."""
        if (step, what) not in self._numbers:
            self._numbers[step, what] = len(self.conditions)
            self.conditions.append(StepCondition(f"{what}{step.name}", condition, sees))
        return self._numbers[step, what]
