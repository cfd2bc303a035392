"""A pattern as an automaton, and its step: partial matches before an event to those behind it. No I/O, no state.

A partial match is the path of events that it has taken, and the steps of which it waits for an event: after `a b+`
those are `b` and what follows. An event that a step takes makes a longer partial match of it; the one before stays with
the steps that go on waiting. So all partial matches of a key are a list, and each path is in it once.

The contiguity of a step says which events it waits through: `next` none, `then` those that it does not take, `then_any`
all. That, and the treatment of absence and of `until`, is Flink's (NFACompiler); greedy repetition is Flink's as long
as the repetition can take more. `compiling` makes the automaton of a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias

from streamflow.operators.patterns.pattern import Condition, Contiguity

__all__ = [
    "Automaton",
    "Holds",
    "Partial",
    "Path",
    "Stage",
    "StepCondition",
    "Stepped",
    "TakingStep",
    "stepped",
]

Path: TypeAlias = tuple[tuple[int, int], ...]
"""(step, event) for each event taken, in order; steps are those of `Automaton.steps`, events are numbered in their
order."""
Taken: TypeAlias = Sequence[tuple[int, int]]
"""The event at hand as taken by each step."""
Holds = Callable[[int, Path], bool]
"""(number of a condition, path) → whether it is true for the event at hand behind this path."""


class TakingStep(NamedTuple):
    """A step that takes events. `repeated`: it may take several, and its column holds lists."""

    name: str
    repeated: bool


class StepCondition(NamedTuple):
    """A condition, and in words what it is of. It may refer to so many of the steps, which come before it or are in the
    same repetition."""

    label: str
    condition: Condition | None
    sees: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A step, or one of its places in the repetitions of a group. Conditions are numbers in `Automaton.conditions`.

    `onward` are the stages of which the next event may be once this one has enough, each with the time in which it has
    to come (None: any); `gap` is that time for another event of this stage. `ends`: none need follow. `absent`:
    conditions that no later event may fulfil before the next stage takes one, `absent_next` the same for the next event
    alone. `until` ends the repetition of the step, and each of `stops` that of a group around it.
    """

    step: int
    condition: int
    follows: Contiguity
    inner: Contiguity
    least: int
    most: int | None
    greedy: bool
    until: int | None
    stops: tuple[int, ...] = ()
    onward: tuple[int, ...] = ()
    times: tuple[int | None, ...] = ()
    gap: int | None = None
    ends: bool = False
    absent: tuple[int, ...] = ()
    absent_next: int | None = None

    @property
    def repeated(self) -> bool:
        """Whether it may take several events, one behind the other."""
        return self.most != 1

    def waits_for(self, own: int) -> list[tuple[int, int | None]]:
        """The stages that may take the event behind this one, whose number is its `own`, with their times."""
        behind = [*zip(self.onward, self.times, strict=True)]
        return [(own, self.gap), *behind] if self.repeated else behind


@dataclass(frozen=True)
class Automaton:
    """A pattern's stages, steps and conditions. `starts` are the stages that may take the first event; `awaits`: the
    pattern ends with an absence, of the next event or until the time is over, which is `awaits_for` since the last
    event if that has an own one; `ambiguous`: a path may be divided among repetitions in several ways, as in `(a+){2}`,
    and is a match once all the same."""

    stages: tuple[Stage, ...]
    steps: tuple[TakingStep, ...]
    conditions: tuple[StepCondition, ...]
    starts: tuple[int, ...]
    awaits: Literal["next", "then"] | None
    within: int | None
    awaits_for: int | None = None
    ambiguous: bool = False

    @cached_property
    def times(self) -> Mapping[tuple[int, int], int]:
        """The time in which a stage's event has to come behind that of another, for those that have one."""
        return {
            (number, behind): time
            for number, stage in enumerate(self.stages)
            for behind, time in stage.waits_for(number)
            if time is not None
        }

    @cached_property
    def shortest(self) -> int | None:
        """The shortest time that counts from one event to the next; None if there is none."""
        times = [*self.times.values(), *([] if self.awaits_for is None else [self.awaits_for])]
        return min(times, default=None)

    @cached_property
    def ends(self) -> bool:
        """Whether each partial match has a time, behind which it is over."""
        return self.within is not None or (
            all(
                time is not None
                for number, stage in enumerate(self.stages)
                for _, time in stage.waits_for(number)
            )
            and (self.awaits is None or self.awaits_for is not None)
        )

    @property
    def bounded(self) -> bool:
        """Whether partial matches do not wait for ever: they have a time, or wait for the next event alone."""
        return self.within is not None or all(
            time is not None or (stage.inner if behind == number else self.stages[behind].follows) == "next"
            for number, stage in enumerate(self.stages)
            for behind, time in stage.waits_for(number)
        )

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
    `stage` is the last stage, -1 before the first event; `last` is the time of its event.
    """

    start: int
    path: Path
    waits: tuple[int, ...]
    repeated: int = 0
    fresh: bool = False
    awaits: bool = False
    matched: bool = False
    stage: int = -1
    last: int = 0

    def moments(self, automaton: Automaton) -> set[int]:
        """The last moments at which an event that it waits for can come, or has to be absent, by times between two."""
        times = [time for wait in self.waits if (time := automaton.times.get((self.stage, wait))) is not None]
        if self.awaits and automaton.awaits_for is not None:
            times.append(automaton.awaits_for)
        return {self.last + time - 1 for time in times}

    def left_at(self, automaton: Automaton, watermark: int) -> Partial | None:
        """The partial match without what can no longer come; None if nothing is left to wait for. An absence whose time
        is over makes it a match."""
        if automaton.within is not None and self.start + automaton.within - 1 <= watermark:
            return None
        passed, times = watermark - self.last, automaton.times
        waits = tuple(
            wait
            for wait in self.waits
            if (time := times.get((self.stage, wait))) is None or time - 1 > passed
        )
        awaits = self.awaits and (automaton.awaits_for is None or automaton.awaits_for - 1 > passed)
        if not waits and not awaits:
            return None
        if len(waits) == len(self.waits) and awaits is self.awaits:
            return self
        return self._replace(waits=waits, awaits=awaits, matched=self.matched or (not awaits and self.awaits))


class Stepped(NamedTuple):
    """The partial matches behind an event, and the paths that have become matches."""

    partials: list[Partial]
    matches: list[Path]


_NONE: Final[tuple[int, ...]] = ()


def stepped(
    automaton: Automaton, partials: Sequence[Partial], event: int, time: int, holds: Holds
) -> Stepped:
    """The partial matches and the matches behind an event; `partials` are those before it."""
    after = Stepped([], [])
    # The same pairs in all paths: there may be many.
    taken = [(step, event) for step in range(len(automaton.steps))]
    for partial in partials:
        _step(automaton, partial, taken, time, holds, after)
    begun = Partial(time, (), automaton.starts)
    _take(automaton, begun, taken, time, holds, after)
    return _once(after) if automaton.ambiguous else after


def _once(after: Stepped) -> Stepped:
    """Each path once, whatever the ways in which it is divided among repetitions."""
    found = {*after.matches, *(each.path for each in after.partials if each.awaits or each.matched)}
    partials = [each._replace(matched=True) if each.path in found else each for each in after.partials]
    return Stepped([*dict.fromkeys(partials)], [*dict.fromkeys(after.matches)])


def _step(
    automaton: Automaton, partial: Partial, taken: Taken, time: int, holds: Holds, after: Stepped
) -> None:
    """The step of one partial match; adds what becomes of it to `after`."""
    path = partial.path
    last = automaton.stages[partial.stage]
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
    waits, greedy = _take(automaton, partial, taken, time, holds, after)
    if awaits and greedy:
        # A longer one is to become the match.
        awaits, matched = False, True
    if waits or awaits:
        if waits is partial.waits and not partial.fresh and awaits is partial.awaits:
            after.partials.append(partial)
        else:
            # Not by _replace, which takes more than twice as long: there may be many.
            left = Partial(
                partial.start,
                path,
                waits,
                partial.repeated,
                False,
                awaits,
                matched,
                partial.stage,
                partial.last,
            )
            after.partials.append(left)


def _take(
    automaton: Automaton, partial: Partial, taken: Taken, time: int, holds: Holds, after: Stepped
) -> tuple[tuple[int, ...], bool]:
    """Lets each stage that a partial match waits for take the event if it can; gives the stages that it goes on waiting
    for, and whether a greedy one took it."""
    path, stages = partial.path, automaton.stages
    kept: list[int] = []
    for number in partial.waits:
        stage = stages[number]
        if stage.stops and any(holds(stop, path) for stop in stage.stops):
            continue
        again = number == partial.stage
        fits = holds(stage.condition, path)
        ended = stage.until is not None and holds(stage.until, path)
        if fits and not ended:
            _longer(automaton, partial, number, taken[stage.step], time, after)
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


def _longer(
    automaton: Automaton, partial: Partial, number: int, taken: tuple[int, int], time: int, after: Stepped
) -> None:
    """Adds the partial match with the event taken by a stage, and the match that it may be."""
    stage = automaton.stages[number]
    count = partial.repeated + 1 if partial.stage == number else 1
    if count > stage.least and stage.most is None:
        # Beyond that the number makes no difference: partial matches that are alike are the same.
        count = stage.least
    path = partial.path + (taken,)  # noqa: RUF005 — copied once, not twice: paths may be long
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
        longer = Partial(partial.start, path, waits, count, fresh, awaits, matched, number, time)
        after.partials.append(longer)
