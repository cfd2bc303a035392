"""Patterns of whole jobs against their definition: matches, their times, what is timed out, the rules after a match; in
every mode, at any parallelism, for any batches and any order of arrival within the bound, with a crash and a restore.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow import col
from streamflow.operators.patterns.after_match import AfterMatch
from streamflow.operators.patterns.automaton import Automaton, Holds, Path
from streamflow.operators.patterns.compiling import compiled
from streamflow.operators.patterns.key_matching import KeyMatching, KeyState
from streamflow.testing import TestJob
from streamflow.time.timestamps import to_micros
from tests.properties.job_model import Event, Way, keyed, read, share, ways
from tests.properties.pattern_model import Fits, Model, Result, Wanted
from tests.properties.test_jobs_keys import TYPES

NAMES = ("one", "two", "three", "four")
TIMES = st.sampled_from([None, None, None, 1, 3, 5])
BETWEEN = ("within", "gap", "absent_within")
RULES = ("no_skip", "skip_to_next", "skip_past_last", "skip_to_first:", "skip_to_last:")


@dataclass(frozen=True)
class Condition:
    """A condition as the job has it and as the model has it: the value is one of some, or larger than in the last
    event of another step, or small beside the sum of all events of a step."""

    kind: Literal["among", "larger", "sum"]
    values: frozenset[int]
    step: str = ""

    def for_job(self, *, function: bool) -> Any:
        values, step = sorted(self.values), self.step
        if function and self.kind == "among":
            return lambda record: record["value"] in values
        if function:
            return lambda record, steps: _fits(
                self.kind,
                self.values,
                step,
                Event(**record),
                {name: [Event(**each) for each in taken] for name, taken in steps.items()},
            )
        among = col("value").is_in(values)
        if self.kind == "larger":
            return among & (col("value") >= sf.step(self.step).value)
        if self.kind == "sum":
            return among & (col("value") + sf.step(self.step).sum("value") < 6)
        return among

    def for_model(self) -> Fits:
        return partial(_fits, self.kind, self.values, self.step)


def _fits(kind: str, values: frozenset[int], step: str, event: Event, taken: dict[str, list[Event]]) -> bool:
    if event.value not in values:
        return False
    before = [each.value for each in taken.get(step, ())]
    if kind == "larger":
        return bool(before) and event.value >= before[-1]
    return kind == "among" or event.value + sum(before) < 6


@dataclass(frozen=True)
class Plan:
    """One step: what takes events, and the absences behind it; or a group of steps. Times are microseconds."""

    name: str
    condition: Condition | None
    follows: str
    count: tuple[int, int | None]
    inner: str
    optional: bool
    greedy: bool
    until: Condition | None
    not_then: Condition | None
    not_next: Condition | None
    within: int | None
    gap: int | None
    absent_within: int | None = None
    steps: tuple[Plan, ...] = ()

    @property
    def open_ended(self) -> bool:
        return self.optional or (bool(self.steps) and self.steps[-1].open_ended)


@st.composite
def conditions(draw: st.DrawFn, of: Sequence[str] = ()) -> Condition:
    values = draw(
        st.sampled_from([{0}, {1}, {0, 1}, {1, 2}, {0, 2, 3}, {0, 1, 2}, {0, 1, 2, 3}]).map(frozenset)
    )
    kind = draw(st.sampled_from(["among", "among", "larger", "sum"]))
    if kind == "among" or not of:
        return Condition("among", values)
    return Condition(kind, values, draw(st.sampled_from(of)))


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    names = NAMES[: draw(st.integers(1, 3))]
    first = draw(st.integers(0, len(names) + 1))
    group = names[first : first + draw(st.integers(1, 2))]
    if not group:
        return _needed(draw(sequences(names)))
    before, behind = names[:first], names[first + len(group) :]
    count = draw(st.sampled_from([(1, 1), (1, None), (2, 2), (2, None), (1, 3)]))
    seen = (*before, *(group if count != (1, 1) else ()))
    steps = draw(sequences(group, seen))
    if draw(st.integers(0, 3)) == 0:
        # The last step is a group in the group.
        inner = draw(counts())
        steps[-1:] = [draw(parts("inner", steps[-1:], inner, names[: first + len(group)]))]
    whole = draw(parts("group", steps, count, names[: first + len(group)]))
    return _needed([*draw(sequences(before)), whole, *draw(sequences(behind, names[: first + len(group)]))])


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int | None]:
    return draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (1, None), (2, 2), (1, 2), (2, None)]))


@st.composite
def sequences(draw: st.DrawFn, names: Sequence[str], seen: Sequence[str] = ()) -> list[Plan]:
    """Steps one behind the other. Their conditions refer to steps before them, and to those that are `seen`."""
    out: list[Plan] = []
    for at, name in enumerate(names):
        count = draw(counts())
        own = (name,) if count != (1, 1) else ()
        before = sorted({*seen, *names[:at]})
        plan = draw(parts(name, (), count, sorted({*before, name})))
        out.append(replace(plan, condition=draw(conditions(sorted({*before, *own})))))
    return out


@st.composite
def parts(
    draw: st.DrawFn, name: str, steps: Sequence[Plan], count: tuple[int, int | None], seen: Sequence[str]
) -> Plan:
    """A step without its condition, or a group of steps."""
    none = {"not_then": None, "not_next": None, "absent_within": None}
    steps = [*steps[:-1], *(replace(step, **none) for step in steps[-1:])]
    repeated = count != (1, 1)
    plan = Plan(
        name=name,
        condition=None,
        follows=draw(st.sampled_from(["next", "then", "then", "then_any"])),
        count=count,
        inner=draw(st.sampled_from(["next", "then", "then_any"])) if repeated else "then",
        optional=draw(st.integers(0, 2)) == 0,
        greedy=repeated and not steps and draw(st.booleans()),
        until=draw(conditions(seen)) if repeated and draw(st.integers(0, 3)) == 0 else None,
        not_then=None,
        not_next=None,
        within=draw(TIMES),
        gap=draw(TIMES) if repeated else None,
        steps=tuple(_needed(steps)),
    )
    if plan.open_ended or draw(st.integers(0, 1 if steps else 3)):
        return plan
    not_next = draw(conditions(seen)) if draw(st.booleans()) else None
    not_then = draw(conditions(seen)) if draw(st.booleans()) else None
    return replace(plan, not_next=not_next, not_then=not_then, absent_within=draw(TIMES))


def _needed(steps: Sequence[Plan]) -> list[Plan]:
    """Steps of which one at least is not optional."""
    if steps and all(step.optional for step in steps):
        return [replace(steps[0], optional=False), *steps[1:]]
    return [*steps]


def single(steps: Sequence[Plan]) -> list[Plan]:
    """The steps with those of groups in place of the groups."""
    return [each for step in steps for each in (single(step.steps) if step.steps else [step])]


def pattern_of(steps: Sequence[Plan], within: int | None, *, function: bool) -> sf.Pattern:
    """The pattern as a job has it."""
    made: sf.Pattern | None = None
    for plan in steps:
        what: Any = (
            [pattern_of(plan.steps, None, function=function)]
            if plan.condition is None
            else [plan.name, plan.condition.for_job(function=function)]
        )
        if made is None:
            made = sf.pattern(*what)
        else:
            made = getattr(made, plan.follows)(*what, within=duration(plan.within))
        least, most = plan.count
        if plan.count != (1, 1):
            gap = duration(plan.gap)
            made = made.at_least(least, gap=gap) if most is None else made.times(least, most, gap=gap)
            made = made.consecutive() if plan.inner == "next" else made
            made = made.combinations() if plan.inner == "then_any" else made
        if plan.optional:
            made = made.optional()
        if plan.greedy:
            made = made.greedy()
        if plan.until is not None:
            made = made.until(plan.until.for_job(function=function))
        absences = [
            (name, fits) for name in ("not_next", "not_then") if (fits := getattr(plan, name)) is not None
        ]
        for name, fits in absences:
            # Only the absence at the end has a time.
            time = duration(plan.absent_within) if plan is steps[-1] and fits is absences[-1][1] else None
            shown = f"{name.replace('_', ' ')} {plan.name}"
            made = getattr(made, name)(shown, fits.for_job(function=function), within=time)
    assert made is not None
    return made if within is None else made.within(timedelta(microseconds=within))


def duration(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)


def wanted_of(steps: Sequence[Plan]) -> list[Wanted]:
    """The steps as the model has them."""

    def fits(condition: Condition | None) -> Fits | None:
        return None if condition is None else condition.for_model()

    return [
        Wanted(
            name=plan.name,
            fits=fits(plan.condition),
            follows=plan.follows,
            inner=plan.inner,
            least=plan.count[0],
            most=plan.count[1],
            optional=plan.optional,
            greedy=plan.greedy,
            until=fits(plan.until),
            not_then=() if plan.not_then is None else (plan.not_then.for_model(),),
            not_next=fits(plan.not_next),
            within=plan.within if number else None,
            gap=plan.gap,
            absent_within=plan.absent_within,
            steps=tuple(wanted_of(plan.steps)),
        )
        for number, plan in enumerate(steps)
    ]


@st.composite
def arrivals(draw: st.DrawFn, bound: int) -> list[Event]:
    """Few events of two keys, in an order in which none comes more than `bound` behind the latest one before it."""
    event = st.builds(Event, st.sampled_from("aaab"), st.integers(0, 20), st.integers(0, 3))
    events = draw(st.lists(event, max_size=9))
    jitters = draw(st.lists(st.integers(0, bound), min_size=len(events), max_size=len(events)))
    return [e for _, e in sorted(zip(jitters, events, strict=True), key=lambda pair: pair[0] + pair[1].ts)]


def models(steps: Sequence[Plan], within: int | None, records: Sequence[Event]) -> dict[str, Model]:
    """A model for each key."""
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(records, key=lambda event: (event.ts, event.value)):
        by_key[event.key].append(event)
    wanted = wanted_of(steps)
    return {key: Model(wanted, within, events) for key, events in by_key.items()}


def results_of(rows: Sequence[dict[str, Any]], end: str) -> Counter[Any]:
    """Rows of a job as results; without the moment at which each was certain."""
    out: Counter[Any] = Counter()
    for row in rows:
        by_step: list[tuple[str, tuple[Event, ...]]] = []
        for name in NAMES:
            if name in row:
                value = row[name]
                listed = value if isinstance(value, list) else [] if value is None else [value]
                by_step.append((name, tuple(Event(e["key"], e["ts"], e["value"]) for e in listed)))
        out[row["key"], tuple(by_step), to_micros(row["match_start"]), to_micros(row[end])] += 1
    return out


def expected(found: Sequence[tuple[str, Result]]) -> Counter[Any]:
    return Counter((key, result.events, result.start, result.end) for key, result in found)


@share(2)
@given(
    steps=plans(),
    within=st.sampled_from([None, 1, 3, 8, 8]),
    bound=st.sampled_from([0, 3]),
    late=st.booleans(),
    data=st.data(),
    way=ways(),
)
def test_every_match_and_no_other_is_found(
    steps: list[Plan], within: int | None, bound: int, late: bool, data: st.DataObject, way: Way
) -> None:
    steps = ending(steps, within)
    records = data.draw(arrivals(bound))
    function = way.layout != "columns"
    job = sf.Job("patterns")
    matches = keyed(read(job, records, way, bound=bound), way).match(
        pattern_of(steps, within, function=function)
    )
    out = matches.collect()
    missed = matches.late.collect() if late else None
    timed_out = matches.timed_out.collect() if has_time(steps, within) else None
    job.run(**way.settings)
    assert missed is None or missed.rows() == []
    by_key = models(steps, within, records)
    assert results_of(out.rows(), "match_end") == expected(
        [(key, model.result(*match)) for key, model in by_key.items() for match in model.matches()]
    )
    if timed_out is not None:
        wanted: Counter[Any] = Counter()
        for key, model in by_key.items():
            for taken, over in model.timed_out():
                result = model.result(taken, over)
                wanted[key, result.events, result.start, over + 1] += 1
        assert results_of(timed_out.rows(), "timed_out_at") == wanted


@share(3)
@given(
    steps=plans(),
    rule=st.sampled_from(RULES),
    of=st.integers(0, 2),
    within=st.sampled_from([None, 3, 8]),
    data=st.data(),
    way=ways(),
)
def test_a_rule_leaves_the_matches_that_it_should(
    steps: list[Plan], rule: str, of: int, within: int | None, data: st.DataObject, way: Way
) -> None:
    steps = ending(steps, within)
    rule += NAMES[of % len(single(steps))] if rule.endswith(":") else ""
    records = data.draw(arrivals(3))
    function = way.layout != "columns"
    job = sf.Job("patterns")
    matches = keyed(read(job, records, way, bound=3), way).match(
        pattern_of(steps, within, function=function), after_match=rule
    )
    out = matches.collect()
    job.run(**way.settings)
    wanted: list[tuple[str, Result]] = []
    for key, model in models(steps, within, records).items():
        wanted += [(key, model.result(taken, 0)) for taken in model.after(rule)]
    assert results_of(out.rows(), "match_end") == expected(wanted)


@share(4)
@given(
    steps=plans(),
    within=st.sampled_from([3, 8]),
    data=st.data(),
    cuts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    crash=st.integers(0, 4),
    then=st.integers(1, 3),
)
def test_a_crash_and_another_parallelism_change_nothing(
    steps: list[Plan], within: int, data: st.DataObject, cuts: list[int], crash: int, then: int
) -> None:
    steps = ending(steps, within)
    records = data.draw(arrivals(3))
    job = sf.Job("patterns")
    stream = job.read(
        sf.MemorySource([{"key": "a", "ts": 0, "value": 0}]), event_time=sf.epoch("ts", unit="us")
    )
    matches = stream.key_by("key").match(pattern_of(steps, within, function=False))
    found = matches.collect()
    timed_out = matches.timed_out.collect()
    with TestJob(job, parallelism=2) as t:
        latest = done = 0
        for number in range(len(records)):
            batch = records[done : done + cuts[number % len(cuts)]]
            if not batch:
                break
            done += len(batch)
            t.source().push([event._asdict() for event in batch])
            latest = max(latest, *(event.ts for event in batch))
            t.source().advance_watermark(latest - 4)
            if number == crash:
                t.checkpoint().crash().restore(parallelism=then)
        t.source().end()
        got, over = t.output(found).rows(), t.output(timed_out).rows()
    by_key = models(steps, within, records)
    assert results_of(got, "match_end") == expected(
        [(key, model.result(*match)) for key, model in by_key.items() for match in model.matches()]
    )
    assert sum(results_of(over, "timed_out_at").values()) == sum(len(m.timed_out()) for m in by_key.values())


@pytest.mark.parametrize("kind", TYPES)
@share(10)
@given(data=st.data(), values=st.lists(st.integers(0, 9), min_size=1, max_size=20), way=ways())
def test_keys_of_every_type_are_apart(kind: str, data: st.DataObject, values: list[int], way: Way) -> None:
    """Null and NaN are keys like any other."""
    dtype, drawn = TYPES[kind]
    keys = [*data.draw(st.lists(drawn, min_size=1, max_size=2)), None]
    chosen = data.draw(st.lists(st.sampled_from(keys), min_size=len(values), max_size=len(values)))
    frame = pl.DataFrame({"key": pl.Series(chosen, dtype=dtype), "ts": range(len(values)), "value": values})
    job = sf.Job("keys")
    stream = job.read(sf.MemorySource(frame, batch_rows=way.rows), event_time=sf.epoch("ts", unit="us"))
    pair = sf.pattern("low", col("value") < 5).then("high", col("value") >= 5)
    out = stream.key_by("key", null_keys="group").match(pair.within("10us")).collect()
    job.run(**way.settings)
    wanted = 0
    for of_key in frame.partition_by("key"):
        low: list[int] = []
        for time, value in zip(of_key["ts"], of_key["value"], strict=True):
            wanted += sum(time - before < 10 for before in low) if value >= 5 else 0
            low = [*low, time] if value < 5 else []
    assert len(out) == wanted


@share(1)
@given(
    steps=plans(),
    within=st.sampled_from([None, 3, 8]),
    rule=st.sampled_from(RULES),
    of=st.integers(0, 2),
    events=st.integers(0, 9).flatmap(
        lambda size: st.lists(
            st.builds(Event, st.just("a"), st.integers(0, 20), st.integers(0, 3)),
            min_size=size,
            max_size=size,
        )
    ),
    cut=st.integers(1, 4),
)
def test_the_automaton_alone_gives_what_is_defined(
    steps: list[Plan], within: int | None, rule: str, of: int, events: list[Event], cut: int
) -> None:
    """The same without a job around it, for many more patterns in the same time."""
    steps = ending(steps, within)
    rule += NAMES[of % len(single(steps))] if rule.endswith(":") else ""
    events = sorted(events, key=lambda event: (event.ts, event.value))
    model = Model(wanted_of(steps), within, events)
    automaton = compiled(pattern_of(steps, within, function=False))
    names = [step.name for step in automaton.steps]
    fits = fits_of(steps, automaton)

    def holds(number: int) -> Holds:
        def is_true(condition: int, path: Path) -> bool:
            taken: dict[str, list[Event]] = {name: [] for name in names}
            for step, event in path:
                taken[names[step]].append(events[event])
            return fits[condition](events[number], taken)

        return is_true

    matching = KeyMatching(automaton, AfterMatch.parsed(rule, names))
    state = KeyState([], [])
    for start in range(0, len(events), cut):
        part = [(number, event.ts) for number, event in enumerate(events)][start : start + cut]
        state = matching.through(state, part, holds, part[-1][1] - 1)
        state = KeyState.unpacked(state.packed()[0])
    matching.end(matching.through(state, [], holds, 1_000), 1_000)
    if rule == "no_skip":
        assert Counter((path, time) for time, path in matching.matches) == Counter(model.matches())
        assert Counter((path, time) for time, path in matching.timed_out) == Counter(model.timed_out())
    else:
        assert [path for _, path in matching.matches] == model.after(rule)


def fits_of(steps: Sequence[Plan], automaton: Automaton) -> list[Fits]:
    """The model's conditions in the order of the automaton's."""
    named: dict[str, Condition | None] = {}

    def name(steps: Sequence[Plan]) -> None:
        for plan in steps:
            name(plan.steps)
            shown = f"({pattern_of(plan.steps, None, function=False).sequence})" if plan.steps else plan.name
            named.update({shown: plan.condition, f"until of {shown}": plan.until})
            named.update({f"not not next {plan.name}": plan.not_next})
            named.update({f"not not then {plan.name}": plan.not_then})

    name(steps)
    found = [named[condition.label] for condition in automaton.conditions]
    return [each.for_model() for each in found if each is not None]


def ending(steps: list[Plan], within: int | None) -> list[Plan]:
    """Steps without an absence for ever at their end, and without times that are longer than the whole."""
    steps = [shorter(step, within) for step in steps]
    last = steps[-1]
    endless = within is None and last.absent_within is None
    return [*steps[:-1], replace(last, not_then=None)] if endless else steps


def shorter(plan: Plan, most: int | None) -> Plan:
    if most is None:
        return plan
    times = {name: min(time, most) for name in BETWEEN if (time := getattr(plan, name)) is not None}
    return replace(plan, **times, steps=tuple(shorter(step, most) for step in plan.steps))


def has_time(steps: Sequence[Plan], within: int | None) -> bool:
    """Whether something can be timed out."""
    return within is not None or compiled(pattern_of(steps, None, function=False)).shortest is not None
