"""Windows with triggers by their definition: one window at a time, one record at a time, in plain Python.

Each node of a trigger is an object that is told of records and asked whether it fires (the Dataflow model; Beam).
Nothing here knows of columns, or of state that merges by sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st

from streamflow.windows import triggers as tr
from streamflow.windows.assigners import Cumulative, GlobalWindow, Session, Sliding, Tumbling
from tests.properties.job_model import MAX, MIN, Event, Window, windows_of

Assigned = Tumbling | Sliding | Cumulative | Session | GlobalWindow


class Fired(NamedTuple):
    """One row of output."""

    change: str
    key: str
    start: int
    end: int
    n: int
    total: int
    timing: str
    number: int
    first: bool
    last: bool


class Moment(NamedTuple):
    """The surroundings in which a trigger is asked: whether the window's end is passed, and the clock."""

    passed: bool
    now: int


class Node:
    """A trigger at work. `children` are told of records unless the node says otherwise."""

    waits_for_end = False

    def __init__(self, *children: Node) -> None:
        self.children = children
        self.waits_for_end |= any(child.waits_for_end for child in children)

    def record(self, now: int) -> None:
        for child in self.children:
            child.record(now)

    def ready(self, at: Moment) -> bool:
        raise NotImplementedError

    def fire(self, at: Moment) -> bool:
        """Fires; returns whether it has finished."""
        raise NotImplementedError

    def begin(self) -> None:
        """Goes back to its beginning."""
        for child in self.children:
            child.begin()

    def absorb(self, other: Node) -> None:
        """Takes over what another window's trigger waits with, and its turn; the rest of where it stood is
        forgotten."""
        for mine, its in zip(self.children, other.children, strict=True):
            mine.absorb(its)

    def forget_progress(self) -> None:
        """Goes back to where the end of its window is to come, since it becomes another window's."""
        for child in self.children:
            child.forget_progress()


class Count(Node):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.seen = n, 0

    def record(self, now: int) -> None:
        self.seen += 1

    def ready(self, at: Moment) -> bool:
        return self.seen >= self.n

    def fire(self, at: Moment) -> bool:
        self.seen = 0
        return True

    def begin(self) -> None:
        self.seen = 0

    def absorb(self, other: Node) -> None:
        assert isinstance(other, Count)
        self.seen += other.seen


class Delay(Node):
    def __init__(self, delay: int) -> None:
        super().__init__()
        self.delay, self.due = delay, MAX

    def record(self, now: int) -> None:
        self.due = min(self.due, now + self.delay)

    def ready(self, at: Moment) -> bool:
        return self.due <= at.now

    def fire(self, at: Moment) -> bool:
        self.due = MAX
        return True

    def begin(self) -> None:
        self.due = MAX

    def absorb(self, other: Node) -> None:
        assert isinstance(other, Delay)
        self.due = min(self.due, other.due)


class AtEnd(Node):
    waits_for_end = True

    def ready(self, at: Moment) -> bool:
        return at.passed

    def fire(self, at: Moment) -> bool:
        return True


class Nothing(Node):
    def ready(self, at: Moment) -> bool:
        return False


class AroundEnd(Node):
    waits_for_end = True

    def __init__(self, early: Node, late: Node, *, goes_on: bool) -> None:
        super().__init__(early, late)
        self.goes_on, self.over = goes_on, False

    def ready(self, at: Moment) -> bool:
        early, late = self.children
        return late.ready(at) if self.over else at.passed or early.ready(at)

    def fire(self, at: Moment) -> bool:
        early, late = self.children
        if self.over:
            if late.fire(at):
                late.begin()
        elif at.passed:
            self.over = True
            late.begin()
            return not self.goes_on
        elif early.fire(at):
            early.begin()
        return False

    def begin(self) -> None:
        super().begin()
        self.over = False

    def forget_progress(self) -> None:
        super().forget_progress()
        self.over = False


class InTurn(Node):
    turn = 0

    def __init__(self, *children: Node) -> None:
        super().__init__(*children)
        ends = (number for number, child in enumerate(children) if child.waits_for_end)
        self.first_end = next(ends, len(children))

    def ready(self, at: Moment) -> bool:
        return self.children[self.turn].ready(at)

    def fire(self, at: Moment) -> bool:
        if self.children[self.turn].fire(at):
            self.turn += 1
            if self.turn == len(self.children):
                return True
            # It has heard of records before its turn.
            self.children[self.turn].begin()
        return False

    def begin(self) -> None:
        super().begin()
        self.turn = 0

    def absorb(self, other: Node) -> None:
        super().absorb(other)
        assert isinstance(other, InTurn)
        self.turn = max(self.turn, other.turn)

    def forget_progress(self) -> None:
        super().forget_progress()
        self.turn = min(self.turn, self.first_end)


class AnyOf(Node):
    def ready(self, at: Moment) -> bool:
        return any(child.ready(at) for child in self.children)

    def fire(self, at: Moment) -> bool:
        self.begin()
        return True


class AllOf(AnyOf):
    def ready(self, at: Moment) -> bool:
        return all(child.ready(at) for child in self.children)


class Again(Node):
    def ready(self, at: Moment) -> bool:
        return self.children[0].ready(at)

    def fire(self, at: Moment) -> bool:
        if self.children[0].fire(at):
            self.children[0].begin()
        return False


class Until(Node):
    def ready(self, at: Moment) -> bool:
        return any(child.ready(at) for child in self.children)

    def fire(self, at: Moment) -> bool:
        if self.children[1].ready(at):
            self.begin()
            return True
        return self.children[0].fire(at)


def node_of(trigger: tr.Trigger | None) -> Node:
    """A trigger at its beginning."""
    match trigger:
        case tr.AfterCount(n):
            return Count(n)
        case tr.AfterProcessingTime(delay):
            return Delay(delay)
        case tr.AfterWatermark(None, None):
            return AtEnd()
        case tr.AfterWatermark(early, late):
            return AroundEnd(node_of(early), node_of(late), goes_on=late is not None)
        case tr.AfterEach(triggers):
            return InTurn(*map(node_of, triggers))
        case tr.AfterAny(triggers):
            return AnyOf(*map(node_of, triggers))
        case tr.AfterAll(triggers):
            return AllOf(*map(node_of, triggers))
        case tr.Repeatedly(inner):
            return Again(node_of(inner))
        case tr.OrFinally(inner, until):
            return Until(node_of(inner), node_of(until))
        case _:
            return Nothing()


def triggers() -> st.SearchStrategy[tr.Trigger]:
    """Triggers of all kinds, three deep."""
    once = st.one_of(
        st.builds(tr.AfterCount, st.integers(1, 4)),
        st.builds(tr.AfterProcessingTime, st.integers(1, 4).map(lambda s: s * 1_000_000)),
        st.just(tr.AfterWatermark()),
    )
    several = st.lists(once, min_size=1, max_size=3).map(tuple)
    single = st.one_of(once, st.builds(tr.AfterAny, several), st.builds(tr.AfterAll, several))
    around = st.builds(tr.AfterWatermark, st.none() | single, st.none() | single)
    again = single.map(tr.repeatedly)
    either = st.one_of(single, around, again, st.just(tr.never()))
    in_turn = st.lists(either, min_size=1, max_size=3).map(lambda each: tr.AfterEach(tuple(each)))
    return st.one_of(either, in_turn, in_turn.map(tr.repeatedly), st.builds(tr.OrFinally, either, single))


def random_trigger(random: Random, *, clock: bool) -> tr.Trigger:
    """A trigger of any kind, three deep. `clock`: some nodes of it may go by the clock."""

    def once() -> tr.Trigger:
        kinds = [
            tr.AfterCount(random.randint(1, 4)),
            tr.AfterCount(random.randint(1, 4)),
            tr.AfterWatermark(),
        ]
        if clock:
            delay = tr.AfterProcessingTime(random.choice([1, 500, 1_000, 3_000, 20_000]))
            kinds += [delay, delay]
        return random.choice(kinds)

    def single() -> tr.Trigger:
        several = tuple(once() for _ in range(random.randint(1, 3)))
        return random.choice([once(), once(), tr.AfterAny(several), tr.AfterAll(several)])

    def either() -> tr.Trigger:
        around = tr.AfterWatermark(*(random.choice([None, single(), single()]) for _ in range(2)))
        return random.choice([single(), around, around, around, tr.repeatedly(single()), tr.never()])

    in_turn = tr.AfterEach(tuple(either() for _ in range(random.randint(1, 3))))
    until = tr.OrFinally(either(), single())
    return random.choice(
        [either(), either(), either(), in_turn, tr.repeatedly(in_turn), until, tr.repeatedly(until)]
    )


def lasts(trigger: tr.Trigger) -> bool:
    """Whether it never finishes."""
    return isinstance(trigger, tr.Repeatedly | tr.Never) or (
        isinstance(trigger, tr.AfterWatermark) and trigger.late is not None
    )


def by_clock(trigger: tr.Trigger | None) -> bool:
    """Whether it goes by the clock anywhere."""
    return "after_processing_time" in str(trigger)


@dataclass
class OneWindow:
    """A window of a key: its records, those that are new, its trigger, and what has gone out for it."""

    key: str
    bounds: Window
    trigger: Node
    records: list[Event] = field(default_factory=list[Event])
    new: list[Event] = field(default_factory=list[Event])
    panes: int = 0
    on: bool = False
    done: bool = False
    standing: list[Fired] = field(default_factory=list[Fired])


@dataclass
class TriggeredModel:
    """All windows; `fired` in order, the `late` records, and how many were `refused` by triggers that had finished."""

    assigner: Assigned
    trigger: tr.Trigger
    lateness: int
    accumulation: str
    watermark: int = MIN
    now: int = 0
    fired: list[Fired] = field(default_factory=list[Fired])
    late: list[Event] = field(default_factory=list[Event])
    refused: int = 0
    nowhere: int = 0
    held: dict[tuple[str, Window], OneWindow] = field(default_factory=dict[tuple[str, Window], OneWindow])

    def batch(self, records: Sequence[Event]) -> None:
        """Records arrive together, and triggers are asked after them."""
        touched: dict[tuple[str, Window], None] = {}
        if isinstance(self.assigner, Session):
            touched = self._sessions(records, self.assigner.gap)
        else:
            taken: dict[tuple[str, Window], list[Event]] = defaultdict(list)
            for event in records:
                windows = self._windows(event.ts)
                if not windows:
                    self.nowhere += 1
                    continue
                open_ones = [w for w in windows if not self._over(w[1])]
                if not open_ones:
                    self.late.append(event)
                    continue
                open_ones = [
                    w for w in open_ones if not ((held := self.held.get((event.key, w))) and held.done)
                ]
                if not open_ones:
                    self.refused += 1
                for window in open_ones:
                    taken[event.key, window].append(event)
            for place, mine in taken.items():
                one = self.held.setdefault(place, OneWindow(*place, node_of(self.trigger)))
                self._add(one, mine)
                touched[place] = None
        for place in touched:
            self._ask(self.held[place], by_watermark=False, before=self.watermark)

    def clock(self, now: int) -> None:
        """The clock moves: all are asked."""
        self.now = now
        for one in list(self.held.values()):
            self._ask(one, by_watermark=False, before=self.watermark)

    def advance(self, watermark: int) -> None:
        """Event time moves: windows whose end it passes are asked, and those that are over go."""
        before, self.watermark = self.watermark, max(watermark, self.watermark)
        for place, one in list(self.held.items()):
            last = one.bounds[1] - 1
            if last <= self.watermark and (last > before or self._over(one.bounds[1])):
                self._ask(one, by_watermark=True, before=before)
            if self._over(one.bounds[1]):
                del self.held[place]

    def _windows(self, ts: int) -> list[Window]:
        if isinstance(self.assigner, GlobalWindow):
            return [(MIN, MAX)]
        assert not isinstance(self.assigner, Session)
        return windows_of(ts, self.assigner)

    def _over(self, end: int) -> bool:
        return self.watermark == MAX or end - 1 + self.lateness <= self.watermark

    def _add(self, one: OneWindow, records: Sequence[Event]) -> None:
        for event in records:
            one.records.append(event)
            one.new.append(event)
            one.trigger.record(self.now)

    def _sessions(self, records: Sequence[Event], gap: int) -> dict[tuple[str, Window], None]:
        touched: dict[tuple[str, Window], None] = {}
        for key in dict.fromkeys(event.key for event in records):
            old = [one for (k, _), one in self.held.items() if k == key]
            pieces: list[tuple[Window, OneWindow | Event]] = [(one.bounds, one) for one in old]
            pieces += [((e.ts, e.ts + gap), e) for e in records if e.key == key]
            groups: list[tuple[Window, list[OneWindow | Event]]] = []
            for bounds, piece in sorted(pieces, key=lambda pair: pair[0]):
                if groups and bounds[0] < groups[-1][0][1]:
                    (start, end), members = groups[-1]
                    groups[-1] = ((start, max(end, bounds[1])), [*members, piece])
                else:
                    groups.append((bounds, [piece]))
            for bounds, members in groups:
                fresh = [m for m in members if isinstance(m, Event)]
                ones = [m for m in members if isinstance(m, OneWindow)]
                if fresh and self._over(bounds[1]):
                    self.late += fresh
                    continue
                if not fresh:
                    continue
                same = next((one for one in ones if one.bounds == bounds), None)
                if same is None:
                    same = OneWindow(key, bounds, node_of(self.trigger))
                else:
                    ones.remove(same)
                    if same.done:
                        self.refused += len(fresh)
                        fresh = []
                for one in ones:
                    same.records = [*one.records, *same.records]
                    same.new = [*one.new, *same.new]
                    same.standing = [*one.standing, *same.standing]
                    its = deepcopy(one.trigger)
                    its.forget_progress()
                    same.trigger.absorb(its)
                    del self.held[key, one.bounds]
                self._add(same, fresh)
                self.held[key, bounds] = same
                touched[key, bounds] = None
        return touched

    def _ask(self, one: OneWindow, *, by_watermark: bool, before: int) -> None:
        last = one.bounds[1] - 1
        passed, over = last <= self.watermark, by_watermark and self._over(one.bounds[1])
        at = Moment(passed, self.now)
        ends = by_watermark and passed and last > before
        # A trigger fires for what is new, and for the end of its window.
        ready = not one.done and (bool(one.new) or ends) and one.trigger.ready(at)
        on_time = ends and not one.on
        final = over and not one.done
        says = (ready or final) and (bool(one.new) or (on_time and (ready or self.trigger.waits)))
        if ready:
            one.done = one.trigger.fire(at)
            if one.done:
                one.trigger.begin()
        if says:
            timing = "ON_TIME" if on_time else "LATE" if passed else "EARLY"
            self._put_out(one, timing, is_last=over or one.done)
            one.on = one.on or passed
            one.panes += 1
        if ready:
            one.new = []

    def _put_out(self, one: OneWindow, timing: str, *, is_last: bool) -> None:
        records = one.new if self.accumulation == "discarding" else one.records
        pane = Fired(
            "insert",
            one.key,
            *one.bounds,
            len(records),
            sum(event.value for event in records),
            timing,
            one.panes,
            one.panes == 0,
            is_last,
        )
        if self.accumulation == "retracting":
            for old in one.standing:
                same = (old.start, old.end) == one.bounds
                self.fired.append(old._replace(change="update_before" if same else "delete"))
                if same:
                    pane = pane._replace(change="update_after")
            one.standing = [pane._replace(change="insert")]
        self.fired.append(pane)


def rows_of(output: Sequence[dict[str, Any]], micros: Callable[[Any], int]) -> list[Fired]:
    """The rows that an operator put out."""
    rows: list[Fired] = []
    for row in output:
        start, end = MIN, MAX
        if "window_start" in row:
            start, end = micros(row["window_start"]), micros(row["window_end"])
        change = str(row.get("change", "insert"))
        info = (row["pane_timing"], row["pane_index"], row["is_first"], row["is_last"])
        rows.append(Fired(change, row["k"], start, end, row["n"], row["total"], *info))
    return rows
