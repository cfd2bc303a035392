"""A pattern as an automaton, and its step: partial matches before an event to those behind it. No I/O, no state.

A partial match is the path of events that it has taken, and the steps of which it waits for an event: after `a b+`
those are `b` and what follows. An event that a step takes makes a longer partial match of it; the one before stays with
the steps that go on waiting. So all partial matches of a key are a list, and each path is in it once.

The contiguity of a step says which events it waits through: `next` none, `then` those that it does not take, `then_any`
all. That, and the treatment of absence and of `until`, is Flink's (NFACompiler); greedy repetition is Flink's as long
as the repetition can take more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from streamflow.operators.patterns.pattern import Condition, Contiguity, Pattern, Step

__all__ = ["Automaton", "Holds", "Partial", "Path", "Stage", "Stepped", "compiled", "stepped"]

Path: TypeAlias = tuple[tuple[int, int], ...]
"""(stage, event) for each event taken, in order; events are numbered in their order."""
Taken: TypeAlias = Sequence[tuple[int, int]]
"""The event at hand as taken by each stage."""
Holds = Callable[[int, Path], bool]
"""(number of a condition, path) → whether it is true for the event at hand behind this path."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A step that takes events. Conditions are numbers in `Automaton.conditions`.

    `onward` are the stages of which the next event may be once this one has enough; `ends`: none need follow. `absent`:
    conditions that no later event may fulfil before the next stage takes one, `absent_next` the same for the next event
    alone.
    """

    name: str
    condition: int
    follows: Contiguity
    inner: Contiguity
    least: int
    most: int | None
    greedy: bool
    until: int | None
    onward: tuple[int, ...]
    ends: bool
    absent: tuple[int, ...] = ()
    absent_next: int | None = None

    @property
    def repeated(self) -> bool:
        """Whether it may take several events: its column then holds lists."""
        return self.most != 1


@dataclass(frozen=True, slots=True)
class Automaton:
    """A pattern's stages and conditions. `starts` are the stages that may take the first event; `awaits`: the pattern
    ends with an absence, of the next event or until the time is over."""

    stages: tuple[Stage, ...]
    conditions: tuple[tuple[str, Condition | None], ...]
    starts: tuple[int, ...]
    awaits: Literal["next", "then"] | None
    within: int | None

    @property
    def strict(self) -> bool:
        """Whether an event that fulfils no condition can make a difference."""
        return any(
            (stage.follows == "next" and number > 0)
            or (stage.repeated and stage.inner == "next")
            or stage.absent_next is not None
            for number, stage in enumerate(self.stages)
        )


class Partial(NamedTuple):
    """A partial match: the time of its first event, its path, and the stages that it waits for.

    `repeated` is the number of events that its last stage has taken. `fresh`: the next event decides about an absence.
    `awaits`: it is a match once an absence is certain. `matched`: it has been a match, and may become a longer one.
    """

    start: int
    path: Path
    waits: tuple[int, ...]
    repeated: int = 0
    fresh: bool = False
    awaits: bool = False
    matched: bool = False


class Stepped(NamedTuple):
    """The partial matches behind an event, and the paths that have become matches."""

    partials: list[Partial]
    matches: list[Path]


_NONE: Final[tuple[int, ...]] = ()


def compiled(pattern: Pattern) -> Automaton:
    """The automaton of a pattern.

    >>> from streamflow import col
    >>> from streamflow.operators.patterns.pattern import pattern
    >>> automaton = compiled(pattern("a", col("n") > 1).then("b").optional().next("c"))
    >>> [stage.onward for stage in automaton.stages], automaton.starts, automaton.strict
    ([(1, 2), (2,), ()], (0,), True)
    """
    conditions: list[tuple[str, Condition | None]] = []

    def number(step: Step, condition: Condition | None, what: str) -> int:
        conditions.append((f"{what}{step.name}", condition))
        return len(conditions) - 1

    taking = [step for step in pattern.steps if not step.absent]
    stages: list[Stage] = []
    for step in pattern.steps:
        condition = number(step, step.condition, "not " if step.absent else "")
        if not step.absent:
            until = None if step.until is None else number(step, step.until, "until of ")
            at = len(stages) + 1
            ends = all(later.optional for later in taking[at:])
            stages.append(_stage(step, condition, until, _reached(taking, at), ends))
        elif step.follows == "next":
            stages[-1] = replace(stages[-1], absent_next=condition)
        else:
            stages[-1] = replace(stages[-1], absent=(*stages[-1].absent, condition))
    awaits: Literal["next", "then"] | None = None
    if pattern.steps[-1].absent:
        awaits = "then" if stages[-1].absent else "next"
    return Automaton(tuple(stages), tuple(conditions), _reached(taking, 0), awaits, pattern.time)


def _stage(step: Step, condition: int, until: int | None, onward: tuple[int, ...], ends: bool) -> Stage:
    return Stage(
        name=step.name,
        condition=condition,
        follows=step.follows,
        inner=step.inner,
        least=step.least,
        most=step.most,
        greedy=step.greedy,
        until=until,
        onward=onward,
        ends=ends,
    )


def _reached(steps: Sequence[Step], first: int) -> tuple[int, ...]:
    """The steps from `first` on of which the next event may be: up to the first that is not optional."""
    reached: list[int] = []
    for number in range(first, len(steps)):
        reached.append(number)
        if not steps[number].optional:
            break
    return tuple(reached)


def stepped(
    automaton: Automaton, partials: Sequence[Partial], event: int, time: int, holds: Holds
) -> Stepped:
    """The partial matches and the matches behind an event; `partials` are those before it."""
    after = Stepped([], [])
    # The same pairs in all paths: there may be many.
    taken = [(number, event) for number in range(len(automaton.stages))]
    for partial in partials:
        _step(automaton, partial, taken, holds, after)
    begun = Partial(time, (), automaton.starts)
    _take(automaton, begun, taken, holds, after)
    return after


def _step(automaton: Automaton, partial: Partial, taken: Taken, holds: Holds, after: Stepped) -> None:
    """The step of one partial match; adds what becomes of it to `after`."""
    path = partial.path
    last = automaton.stages[path[-1][0]]
    for condition in last.absent:
        if holds(condition, path):
            return
    awaits, matched = partial.awaits, partial.matched
    if partial.fresh and last.absent_next is not None:
        if holds(last.absent_next, path):
            return
        if awaits and automaton.awaits == "next":
            after.matches.append(path)
            awaits, matched = False, True
    waits, greedy = _take(automaton, partial, taken, holds, after)
    if awaits and greedy:
        # A longer one is to become the match.
        awaits, matched = False, True
    if waits or awaits:
        if waits is partial.waits and not partial.fresh and awaits is partial.awaits:
            after.partials.append(partial)
        else:
            left = Partial(partial.start, path, waits, partial.repeated, False, awaits, matched)
            after.partials.append(left)


def _take(
    automaton: Automaton, partial: Partial, taken: Taken, holds: Holds, after: Stepped
) -> tuple[tuple[int, ...], bool]:
    """Lets each stage that a partial match waits for take the event if it can; gives the stages that it goes on waiting
    for, and whether a greedy one took it."""
    path = partial.path
    last = path[-1][0] if path else -1
    kept: list[int] = []
    for number in partial.waits:
        stage = automaton.stages[number]
        again = number == last
        fits = holds(stage.condition, path)
        ended = stage.until is not None and holds(stage.until, path)
        if fits and not ended:
            _longer(automaton, partial, taken[number], after)
        contiguity = stage.inner if again else stage.follows
        if contiguity == "then_any":
            stays = not (again and ended)
        else:
            stays = contiguity == "then" and not fits and not (again and ended)
        if stays:
            kept.append(number)
        if stage.greedy and fits and not ended:
            return tuple(kept), True
    return (partial.waits if len(kept) == len(partial.waits) else tuple(kept)), False


def _longer(automaton: Automaton, partial: Partial, taken: tuple[int, int], after: Stepped) -> None:
    """Adds the partial match with the event taken by a stage, and the match that it may be."""
    number, before = taken[0], partial.path
    stage = automaton.stages[number]
    count = partial.repeated + 1 if before and before[-1][0] == number else 1
    path = before + (taken,)  # noqa: RUF005 — copied once, not twice: paths may be long
    enough = count >= stage.least
    waits = (number,) if stage.most is None or count < stage.most else _NONE
    fresh = awaits = matched = False
    if enough:
        waits += stage.onward
        fresh = stage.absent_next is not None
        if stage.ends:
            awaits = automaton.awaits is not None
            matched = not awaits
            if matched:
                after.matches.append(path)
    if waits or awaits:
        after.partials.append(Partial(partial.start, path, waits, count, fresh, awaits, matched))
