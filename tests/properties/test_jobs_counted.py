"""Count windows of whole jobs against their definition: the records of a key in order of event time, cut by number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from tests.properties.job_model import (
    Event,
    Pane,
    Way,
    arrivals,
    certain_batches,
    certain_ways,
    disordered,
    events,
    keyed,
    panes_of,
    read,
    same,
    share,
    value_of,
    ways,
)

BOUND = 10


def counted(records: Sequence[Event], n: int, every: int) -> list[Pane]:
    """All windows: after every so many records of a key the last `n`; at the end those since, if there are any."""
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(records, key=lambda event: (event.ts, event.value)):
        by_key[event.key].append(event)
    panes: list[Pane] = []
    for key, mine in by_key.items():
        for end in range(every, len(mine) + every, every):
            window = mine[max(end - n, 0) : end]
            first, last = window[0].ts, window[-1].ts
            panes.append(Pane("insert", key, first, last + 1, len(window), sum(e.value for e in window)))
    return panes


def run(
    records: Sequence[Event], n: int, every: int, way: Way, bound: int, *, late: bool = False
) -> tuple[list[Pane], list[Event], int]:
    job = sf.Job("counted")
    windowed = keyed(read(job, records, way, bound=bound), way).window(sf.count_window(n, every=every))
    results = windowed.aggregate(n=sf.count(), total=sf.sum(value_of(way)))
    out = results.collect()
    missed = results.late.collect() if late else None
    with certain_batches(certain=way.one_reader):
        result = job.run(**way.settings)
    rows = [] if missed is None else missed.rows()
    return panes_of(out.frame()), [Event(row["key"], row["ts"], row["value"]) for row in rows], result.dropped


sizes = st.integers(1, 5).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@share(2)
@given(records=disordered(BOUND), size=sizes, way=ways())
def test_every_way_to_run_gives_the_windows_of_the_definition(
    records: list[Event], size: tuple[int, int], way: Way
) -> None:
    panes, _, dropped = run(records, *size, way, BOUND)
    assert same(panes, counted(records, *size))
    assert dropped == 0


@share(2)
@given(
    orders=events(most=15).flatmap(lambda e: st.tuples(st.just(e), st.permutations(e))),
    size=sizes,
    way=ways(),
)
def test_any_order_gives_the_same_windows(
    orders: tuple[list[Event], list[Event]], size: tuple[int, int], way: Way
) -> None:
    one, other = (run(records, *size, way, 60)[0] for records in orders)
    assert same(one, other)


@share(2)
@given(records=events(), size=sizes, bound=st.integers(0, 15), way=certain_ways(), late=st.booleans())
def test_late_records_are_in_no_window(
    records: list[Event], size: tuple[int, int], bound: int, way: Way, late: bool
) -> None:
    behind: list[Event] = []
    in_time: list[Event] = []
    reached = -(2**63)
    for batch, watermark in arrivals(records, way, bound):
        for event in batch:
            (behind if event.ts <= reached else in_time).append(event)
        reached = max(reached, watermark) if watermark is not None else reached
    panes, missed, dropped = run(records, *size, way, bound, late=late)
    assert same(panes, counted(in_time, *size))
    assert same(missed, behind if late else [])
    assert dropped == (0 if late else len(behind))
