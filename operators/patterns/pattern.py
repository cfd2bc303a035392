"""`Pattern`: a sequence of steps as data, as a user writes it.

The words and their meaning are those of Flink's CEP library, whose model is SASE+ (Agrawal et al., SIGMOD 2008): three
kinds of contiguity, repetition, absence, groups. `compiling` makes an automaton of a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import polars as pl

from streamflow.errors import JobDefinitionError
from streamflow.time.timestamps import Duration, format_duration, parse_duration

__all__ = ["Condition", "Contiguity", "Pattern", "Step", "event_steps", "pattern"]

Condition = pl.Expr | Callable[..., object]
"""An expression, or a function of one record, or of a record and of the records that each step has taken, that is true
for the events of a step."""
Contiguity = Literal["next", "then", "then_any"]
"""The events that may come between: none; those that the step does not take; any."""
_DEEPEST: Final = 50


@dataclass(frozen=True, eq=False)
class Step:
    """One step: an event or several, or with `absent` the absence of one; or a group of `steps`, named after them.

    `follows` says which events may come before its first event, `inner` which between two of them; `within` and `gap`
    are the times in microseconds that pass there and are not reached (None: any). It takes `least` to `most` events
    (None: any number), and none at all if `optional`. A group is taken so many times;
    `depth` counts the groups in one another.
    """

    name: str
    condition: Condition | None = None
    follows: Contiguity = "then"
    absent: bool = False
    least: int = 1
    most: int | None = 1
    optional: bool = False
    inner: Contiguity = "then"
    greedy: bool = False
    until: Condition | None = None
    steps: tuple[Step, ...] = ()
    within: int | None = None
    gap: int | None = None
    depth: int = 0

    @property
    def repeated(self) -> bool:
        """Whether it may be taken several times."""
        return self.most != 1

    @property
    def open_ended(self) -> bool:
        """Whether its last event may be left out."""
        return self.optional or (bool(self.steps) and self.steps[-1].open_ended)

    def __str__(self) -> str:
        shown = self.name
        match self.least, self.most:
            case 1, 1:
                pass
            case 1, None:
                shown += "+"
            case least, None:
                shown += f"{{{least},}}"
            case least, most:
                shown += f"{{{least}}}" if least == most else f"{{{least},{most}}}"
        shown += "?" if self.optional else ""
        more = {"next": "consecutive", "then_any": "combinations"}.get(self.inner, "")
        words = [
            shown,
            "" if self.within is None else f"within {format_duration(self.within)}",
            "" if self.gap is None else f"gap {format_duration(self.gap)}",
            more,
            "greedy" if self.greedy else "",
            "until" if self.until is not None else "",
        ]
        return " ".join(filter(None, words))


@dataclass(frozen=True, eq=False)
class Pattern:
    """A sequence of steps; made by `sf.pattern`, and found in a keyed stream by `keyed.match`.

    Each method gives a new pattern. `next`, `then`, `then_any`, `not_next` and `not_then` add a step; `optional`,
    `times`, `at_least`, `one_or_more`, `until`, `greedy`, `consecutive` and `combinations` are about the step before
    them; `within` is about the whole. A condition is an expression or a function of one record; an expression may
    refer to earlier steps by `sf.step`, a function by a second parameter, a dict with the list of records that each
    step has taken. In place of a name and a condition a whole pattern may stand, as a group.

    `next`, `then` and `then_any` take `within=`: less than that time lies between the step's first event and the event
    before it (FLIP-228: PREVIOUS_AND_CURRENT); `times`, `at_least` and `one_or_more` take `gap=`: less than that lies
    between two events of the step, or between the end of a group and its next repetition.

    >>> import streamflow as sf
    >>> from streamflow import col
    >>> small = sf.pattern("small", col("amount") < 10)
    >>> small.then("large", col("amount") > 50 * sf.step("small").amount).within("1m")
    Pattern(small, then large, within 1m)
    >>> failed = sf.pattern("tried", col("kind") == "try").next("failed", col("kind") == "fail")
    >>> sf.pattern("login", col("kind") == "login").then(failed).times(3)
    Pattern(login, then (tried, next failed){3})
    >>> sf.pattern("paid", col("kind") == "paid").then("sent", col("kind") == "sent", within="2d")
    Pattern(paid, then sent within 2d)
    """

    steps: tuple[Step, ...]
    time: int | None = None
    """The time in microseconds that lies between the first and the last event at most, and is not reached."""

    def __repr__(self) -> str:
        return f"Pattern({self})"

    def __str__(self) -> str:
        return self.sequence if self.time is None else f"{self.sequence}, within {format_duration(self.time)}"

    @property
    def sequence(self) -> str:
        """The steps in words, without their conditions and the time."""
        first, *others = self.steps
        return ", ".join([str(first), *(f"{_words(step)} {step}" for step in others)])

    def next(
        self, name: str | Pattern, condition: Condition | None = None, *, within: Duration | None = None
    ) -> Pattern:
        """An event right after the one before: no other event of the key comes between."""
        return self._followed(_taking(name, condition, "next", within))

    def then(
        self, name: str | Pattern, condition: Condition | None = None, *, within: Duration | None = None
    ) -> Pattern:
        """The first later event for which the condition is true; others may come between."""
        return self._followed(_taking(name, condition, "then", within))

    def then_any(
        self, name: str | Pattern, condition: Condition | None = None, *, within: Duration | None = None
    ) -> Pattern:
        """Any later event for which the condition is true, each in a match of its own."""
        return self._followed(_taking(name, condition, "then_any", within))

    def not_next(self, name: str, condition: Condition, *, within: Duration | None = None) -> Pattern:
        """The event right after the one before is none of these.

        At the end of a pattern the next event completes the match, which it is not part of; with a time, the pattern's
        or that since the event before, so does its end, if no event came.
        """
        if self.steps[-1].absent:
            raise JobDefinitionError(
                f"not_next({name!r}) stands behind {self.steps[-1].name!r}, which is no event",
                hint="write it right behind a step that takes events",
            )
        return self._followed(self._absent(name, condition, "next", within))

    def not_then(self, name: str, condition: Condition, *, within: Duration | None = None) -> Pattern:
        """None of these events comes between the step before and the next one.

        At the end of a pattern: none until a time is over, the pattern's or that of `within=` since the event before.
        """
        return self._followed(self._absent(name, condition, "then", within))

    def optional(self) -> Pattern:
        """The step or the group may be left out: its columns are then null, or empty lists."""
        return self._changed("optional", optional=True)

    def times(self, least: int, most: int | None = None, *, gap: Duration | None = None) -> Pattern:
        """The step takes `least` events, or `least` to `most`; a group is repeated so many times."""
        most = least if most is None else most
        for count in (least, most):
            self._check_count("times", count)
        if most < least:
            raise JobDefinitionError(f"times({least}, {most})", hint="the first number is the smaller one")
        return self._repeated("times", least, most, gap)

    def at_least(self, least: int, *, gap: Duration | None = None) -> Pattern:
        """The step takes `least` events or more; a group is repeated so many times."""
        self._check_count("at_least", least)
        return self._repeated("at_least", least, None, gap)

    def one_or_more(self, *, gap: Duration | None = None) -> Pattern:
        """The step takes one event or more, or the group comes once or more; each number gives a match of its own."""
        return self._repeated("one_or_more", 1, None, gap)

    def until(self, condition: Condition) -> Pattern:
        """The repetition ends at an event for which this is true, which the step does not take.

        A group ends wherever it is: no step of it takes that event or a later one.
        """
        if condition is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise JobDefinitionError("until has no condition", hint="say which events end the repetition")
        if self.steps[-1].until is not None:
            raise JobDefinitionError(
                f"{self.steps[-1].name!r} has two conditions of until", hint="join them: (one) | (other)"
            )
        return self._changed("until", repeated=True, until=condition)

    def greedy(self) -> Pattern:
        """The step takes an event that it can take, and what follows does not begin with it: of several numbers of
        repetitions only the largest one is gone on with."""
        if self.steps[-1].steps:
            raise JobDefinitionError(
                f"greedy is about the group {self.steps[-1].name}", hint="say it of a step in the group"
            )
        return self._changed("greedy", repeated=True, greedy=True)

    def consecutive(self) -> Pattern:
        """No other event of the key comes between two of a repeated step, or between two repetitions of a group."""
        return self._between("consecutive", "next")

    def combinations(self) -> Pattern:
        """A repeated step or group may leave out events that it could take: each combination is a match of its own."""
        return self._between("combinations", "then_any")

    def within(self, time: Duration) -> Pattern:
        """Less than this time lies between the first and the last event of a match."""
        micros = parse_duration(time, what="within", positive=True)
        if self.time is not None:
            raise JobDefinitionError(
                "a pattern has two times",
                hint="call within(…) once, for the whole; a step has its own: then(…, within=…)",
            )
        return replace(self, time=micros)

    def step(self, name: str) -> Step | None:
        """The step of that name, also in a group; None if there is none."""
        return next((step for step in _single(self.steps) if step.name == name), None)

    def _followed(self, step: Step) -> Pattern:
        before = self.steps[-1]
        if before.absent and before.within is not None:
            raise JobDefinitionError(
                f"the absence of {before.name!r} has a time, and {step.name!r} comes behind it",
                hint=f"give the time to {step.name!r}: within=…; the absence counts until its event",
            )
        for each in _single([step]):
            if self.step(each.name) is not None:
                raise JobDefinitionError(
                    f"two steps are called {each.name!r}", hint="give each a name of its own"
                )
        return replace(self, steps=(*self.steps, step))

    def _absent(self, name: str, condition: Condition, follows: Contiguity, within: Duration | None) -> Step:
        if isinstance(name, Pattern):
            raise JobDefinitionError(
                f"the absence of {name} is asked for", hint="only that of single events can be: give a name"
            )
        if condition is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise JobDefinitionError(f"the absence of {name!r} has no condition", hint="say which events")
        before = self.steps[-1]
        if before.open_ended:
            optional = "is optional" if before.optional else "ends with an optional step"
            raise JobDefinitionError(
                f"{name!r} must be absent behind {before.name!r}, which {optional}",
                hint="write the absence behind a step that takes an event in any case",
            )
        step = Step(name, condition, follows, absent=True, within=_micros(within, "within"))
        check_step(step)
        return step

    def _repeated(self, method: str, least: int, most: int | None, gap: Duration | None) -> Pattern:
        if self.steps[-1].repeated:
            raise JobDefinitionError(f"{method} for a step that is repeated already", hint="say it once")
        micros = _micros(gap, "gap")
        if micros is not None and most == 1:
            raise JobDefinitionError(
                f"{method}(1) has a gap, and no two events",
                hint="give within=… to the step for the time before it",
            )
        return self._changed(method, least=least, most=most, gap=micros)

    def _between(self, method: str, inner: Contiguity) -> Pattern:
        if self.steps[-1].inner not in ("then", inner):
            raise JobDefinitionError(
                f"{self.steps[-1].name!r} is both consecutive and with combinations",
                hint="choose one of them",
            )
        return self._changed(method, repeated=True, inner=inner)

    def _changed(self, method: str, *, repeated: bool = False, **changes: Any) -> Pattern:
        step = self.steps[-1]
        if step.absent:
            raise JobDefinitionError(
                f"{method} is about {step.name!r}, which is no event", hint="write it behind another step"
            )
        if repeated and not step.repeated:
            once = "comes once" if step.steps else "takes one event"
            raise JobDefinitionError(
                f"{method} is about {step.name!r}, which {once}",
                hint="write it behind one_or_more(), at_least(n) or times(n, m)",
            )
        changed = replace(step, **changes)
        check_step(changed)
        return replace(self, steps=(*self.steps[:-1], changed))

    def _check_count(self, method: str, count: object) -> None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise JobDefinitionError(
                f"{method} got {count!r}", hint="give a whole number from 1 on; optional() allows none"
            )


def _words(step: Step) -> str:
    return f"not_{step.follows}" if step.absent else step.follows


def event_steps(pattern: Pattern) -> list[str]:
    """The names of the steps that take events, in order, those in groups included."""
    return [step.name for step in _single(pattern.steps) if not step.absent]


def _single(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, those of groups in place of the groups."""
    for step in steps:
        yield from _single(step.steps) if step.steps else (step,)


def _micros(time: Duration | None, what: str) -> int | None:
    return None if time is None else parse_duration(time, what=what, positive=True)


def _taking(
    name: str | Pattern, condition: Condition | None, follows: Contiguity, within: Duration | None = None
) -> Step:
    """A step that takes events, or a group."""
    micros = _micros(within, "within")
    if isinstance(name, Pattern):
        return replace(_group(name, condition, follows), within=micros)
    step = Step(name, condition, follows, within=micros)
    check_step(step)
    return step


def _group(pattern: Pattern, condition: Condition | None, follows: Contiguity) -> Step:
    name = f"({pattern.sequence})"
    if condition is not None:
        raise JobDefinitionError(
            f"the group {name} has a condition", hint="give the conditions to the steps in it"
        )
    if pattern.time is not None:
        raise JobDefinitionError(
            f"the group {name} has a time", hint="call within(…) once, for the whole pattern"
        )
    if pattern.steps[-1].absent:
        raise JobDefinitionError(
            f"the group {name} ends with an absence",
            hint="write the absence behind the group, or a step behind the absence",
        )
    if all(step.optional for step in pattern.steps):
        raise JobDefinitionError(
            f"all steps of the group {name} are optional",
            hint="leave one as it is; optional() behind the group lets the whole of it be left out",
        )
    depth = 1 + max(step.depth for step in pattern.steps)
    if depth > _DEEPEST:
        raise JobDefinitionError(
            f"{depth} groups are in one another",
            hint=f"{_DEEPEST} at most; steps one behind the other need no group",
        )
    return Step(name, follows=follows, steps=pattern.steps, depth=depth)


def check_step(step: Step) -> None:
    """Raises JobDefinitionError for a name or a condition that a step cannot have."""
    name: object = step.name
    if not isinstance(name, str) or not name or name.startswith("__") or ":" in name:
        raise JobDefinitionError(
            f"a step is called {name!r}",
            hint='give it a name like "small", without ":" and "__" at its start',
        )
    for condition in (step.condition, step.until):
        if condition is not None and not isinstance(condition, pl.Expr) and not callable(condition):
            raise JobDefinitionError(
                f"the condition of {name!r} is {condition!r}",
                hint='give an expression like col("amount") > 10, or a function of the record',
            )


def pattern(name: str | Pattern, condition: Condition | None = None) -> Pattern:
    """A pattern that begins with an event for which the condition is true; without one, with any event. Or one that
    begins with a group of steps, which is a pattern itself.

    >>> from streamflow import col
    >>> rise = pattern("rise", col("change") > 0).one_or_more().next("fall", col("change") < 0)
    >>> rise
    Pattern(rise+, next fall)
    >>> pattern(rise).times(2, 3).then("end", col("change") == 0)
    Pattern((rise+, next fall){2,3}, then end)
    """
    return Pattern((_taking(name, condition, "then"),))
