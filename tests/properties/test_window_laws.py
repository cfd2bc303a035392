"""The laws of SEMANTICS §8 for windows, against models that take one record at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamflow.operators.windows.windowing import Accumulation, WindowAggregateSpec
from streamflow.time.timestamps import MIN_TIME
from streamflow.windows import aggregates as sf
from streamflow.windows.assigners import Assigner, GlobalWindow, Session, Sliding, Tumbling
from tests.unit.operators.driving import Driven, Record

Window = tuple[str, int, int]
"""(key, start, end)."""
Step = list[Record] | int
"""A batch, or a watermark."""

IDS = (("ids", sf.collect_list("value")), ("n", sf.count()))

sizes = st.integers(1, 25)
slicing = st.one_of(
    st.builds(Tumbling, sizes),
    st.tuples(sizes, st.integers(0, 24)).map(lambda pair: Tumbling(pair[0], pair[1] % pair[0])),
    st.tuples(sizes, sizes, st.integers(-24, 24)).map(
        lambda three: Sliding(three[0], three[1], abs(three[2]) % three[1] * (1 if three[2] >= 0 else -1))
    ),
)
sessions = st.builds(Session, sizes)
times = st.integers(-60, 60)
keys = st.sampled_from("abc")


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    drawn = draw(st.lists(st.tuples(keys, times), max_size=40))
    return [(key, time, number) for number, (key, time) in enumerate(drawn)]


@st.composite
def schedules(draw: st.DrawFn) -> list[Step]:
    """Batches and rising watermarks; many records come late."""
    steps: list[Step] = []
    number, watermark = 0, -70
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.booleans()):
            watermark += draw(st.integers(0, 40))
            steps.append(watermark)
        else:
            drawn = draw(st.lists(st.tuples(keys, times), min_size=1, max_size=8))
            steps.append([(key, time, number + i) for i, (key, time) in enumerate(drawn)])
            number += len(drawn)
    return steps


def cut(items: list[Record], cuts: Sequence[int]) -> Iterator[list[Record]]:
    places = sorted({0, len(items), *(c % (len(items) + 1) for c in cuts)})
    for start, end in pairwise(places):
        yield items[start:end]


def finished(steps: Sequence[Step]) -> list[Step | None]:
    return [*steps, None]


def spec(
    assigner: Assigner,
    *,
    lateness: int = 0,
    accumulation: Accumulation = "accumulating",
    late_used: bool = False,
) -> WindowAggregateSpec:
    return WindowAggregateSpec(
        ("key",), assigner, IDS, allowed_lateness=lateness, accumulation=accumulation, late_used=late_used
    )


def holding(assigner: Tumbling | Sliding, time: int) -> list[tuple[int, int]]:
    every = assigner.size if isinstance(assigner, Tumbling) else assigner.every
    starts = [s for s in range(time - assigner.size + 1, time + 1) if (s - assigner.offset) % every == 0]
    return [(start, start + assigner.size) for start in starts]


def in_windows(assigner: Assigner, items: Sequence[Record]) -> dict[Window, set[int]]:
    """The content of each window at the end, without late records."""
    found: dict[Window, set[int]] = defaultdict(set)
    if isinstance(assigner, Tumbling | Sliding):
        for key, time, number in items:
            for start, end in holding(assigner, time):
                found[key, start, end].add(number)
    elif isinstance(assigner, Session):
        for key in {key for key, _, _ in items}:
            mine = sorted((time, number) for k, time, number in items if k == key)
            open_: list[tuple[int, int]] = []
            for time, number in [*mine, (10**9, -1)]:
                if open_ and time - open_[-1][0] >= assigner.gap:
                    found[key, open_[0][0], open_[-1][0] + assigner.gap] = {n for _, n in open_}
                    open_ = []
                open_.append((time, number))
    else:
        for key, _, number in items:
            found[key, 0, 0].add(number)
    return found


def sessions_kept(
    assigner: Session, steps: Sequence[Step], lateness: int
) -> tuple[dict[Window, set[int]], int]:
    """The content of each session at the end, if nothing continues one that is over; and the number of late records."""
    kept: list[Record] = []
    over: dict[Window, set[int]] = {}
    dropped, watermark = 0, MIN_TIME
    for step in steps:
        if isinstance(step, int):
            watermark = step
        else:
            kept += step
        for (key, start, end), numbers in in_windows(assigner, kept).items():
            if end - 1 + lateness <= watermark:
                kept = [record for record in kept if record[2] not in numbers]
                if isinstance(step, int):
                    over[key, start, end] = numbers
                else:
                    dropped += len(numbers)
    return over | in_windows(assigner, kept), dropped


def contents(rows: Sequence[tuple[Any, ...]], *, bounded: bool = True) -> list[tuple[Window, list[int]]]:
    return [((row[0], row[1], row[2]), row[3]) if bounded else ((row[0], 0, 0), row[1]) for row in rows]


@given(st.one_of(slicing, sessions, st.just(GlobalWindow())), records(), st.data(), st.booleans())
def test_the_same_final_panes_for_any_order_batching_and_with_or_without_a_combiner(
    assigner: Assigner, items: list[Record], data: st.DataObject, combine: bool
) -> None:
    """Laws 1, 2 and 8: watermarks that make nothing late, whatever the order."""
    shuffled = data.draw(st.permutations(items))
    batches = list(cut(list(shuffled), data.draw(st.lists(st.integers(0, 40), max_size=5))))
    driven = Driven(spec(assigner), combine=combine)
    rows: list[tuple[Any, ...]] = []
    for position, batch in enumerate(batches):
        driven.batch(*batch)
        ahead = [time for later in batches[position + 1 :] for _, time, _ in later]
        if ahead and data.draw(st.booleans()):
            rows += driven.watermark(min(ahead) - 1).take()
    rows += driven.end().take()
    panes = contents(rows, bounded=not isinstance(assigner, GlobalWindow))
    assert driven.dropped == 0
    assert len({window for window, _ in panes}) == len(panes)
    assert {window: set(ids) for window, ids in panes} == in_windows(assigner, items)
    by_time = {number: time for _, time, number in items}
    for _, ids in panes:
        assert ids == sorted(ids, key=lambda number: (by_time[number], number))
    assert driven.end().take() == []


@given(slicing, schedules(), st.integers(0, 30), st.booleans())
def test_each_record_counts_in_just_the_windows_that_are_not_over(
    assigner: Tumbling | Sliding, steps: list[Step], lateness: int, combine: bool
) -> None:
    """Laws 3, 4 and 6, and the rule of lateness per window, for accumulating and discarding panes alike."""
    expected: dict[Window, list[int]] = defaultdict(list)
    dropped, nowhere = 0, 0
    watermark = MIN_TIME
    for step in steps:
        if isinstance(step, int):
            watermark = step
            continue
        for key, time, number in step:
            windows = holding(assigner, time)
            open_ = [window for window in windows if window[1] - 1 + lateness > watermark]
            nowhere += not windows
            dropped += bool(windows) and not open_
            for start, end in open_:
                expected[key, start, end].append(number)
    for accumulation in ("accumulating", "discarding"):
        driven = Driven(spec(assigner, lateness=lateness, accumulation=accumulation), combine=combine)
        said: dict[Window, list[int]] = defaultdict(list)
        watermark = MIN_TIME
        for turn in finished(steps):
            if turn is None:
                driven.end()
            elif isinstance(turn, int):
                driven.watermark(turn)
            else:
                driven.batch(*turn)
            for window, ids in contents(driven.take()):
                assert window[2] - 1 + lateness > watermark, "a pane after the window's clean-up"
                said[window] = said[window] + ids if accumulation == "discarding" else ids
            watermark = turn if isinstance(turn, int) else watermark
        assert {w: sorted(ids) for w, ids in said.items()} == {w: sorted(ids) for w, ids in expected.items()}
        assert (driven.dropped, driven.in_no_window) == (dropped, nowhere)


@given(st.one_of(slicing, sessions), schedules(), st.integers(0, 30), st.booleans())
def test_retractions_telescope(assigner: Assigner, steps: list[Step], lateness: int, combine: bool) -> None:
    """Law 5: what is retracted was said and is still standing; what stands at the end is right."""
    driven = Driven(spec(assigner, lateness=lateness, accumulation="retracting"), combine=combine)
    standing: dict[Window, list[int]] = {}
    for step in finished(steps):
        if step is None:
            driven.end()
        elif isinstance(step, int):
            driven.watermark(step)
        else:
            driven.batch(*step)
        for change, *row in driven.take():
            ((window, ids),) = contents([tuple(row)])
            if change in ("update_before", "delete"):
                assert standing.pop(window) == ids
            else:
                assert window not in standing
                assert change == "insert" or change == "update_after"
                standing[window] = ids
    if isinstance(assigner, Session):
        windows, dropped = sessions_kept(assigner, steps, lateness)
        assert {window: set(ids) for window, ids in standing.items()} == windows
        assert driven.dropped == dropped


@given(st.one_of(slicing, sessions), schedules(), st.integers(0, 30), st.booleans())
def test_every_record_is_in_a_pane_or_late(
    assigner: Assigner, steps: list[Step], lateness: int, discarding: bool
) -> None:
    """Law 6 with the late output, record by record."""
    accumulation: Accumulation = "discarding" if discarding else "accumulating"
    driven = Driven(spec(assigner, lateness=lateness, accumulation=accumulation, late_used=True))
    for step in steps:
        if isinstance(step, int):
            driven.watermark(step)
        else:
            driven.batch(*step)
    panes = contents(driven.end().take())
    late = [number for _, number, _ in driven.late()]
    told = {number for _, ids in panes for number in ids}
    total = sum(len(step) for step in steps if not isinstance(step, int))
    assert len(late) == len(set(late))
    assert not told & set(late)
    assert len(told) + len(late) + driven.in_no_window == total
    assert driven.dropped == 0
    if discarding and isinstance(assigner, Session):
        assert Counter(number for _, ids in panes for number in ids) == Counter(told)


@given(sessions, schedules(), st.integers(0, 30), st.booleans())
def test_discarding_sessions_say_each_record_once(
    assigner: Session, steps: list[Step], lateness: int, combine: bool
) -> None:
    """Law 4 for sessions: the panes of a key say together what the accumulating ones say in the end."""
    told: dict[str, Counter[int]] = {}
    for accumulation in ("discarding", "retracting"):
        driven = Driven(spec(assigner, lateness=lateness, accumulation=accumulation), combine=combine)
        for step in steps:
            if isinstance(step, int):
                driven.watermark(step)
            else:
                driven.batch(*step)
        counts: Counter[int] = Counter()
        for row in driven.end().take():
            sign = -1 if row[0] in ("update_before", "delete") else 1
            for number in row[-3]:
                counts[number] += sign
        told[accumulation] = +counts
    assert told["discarding"] == told["retracting"]
    assert set(told["discarding"].values()) <= {1}
