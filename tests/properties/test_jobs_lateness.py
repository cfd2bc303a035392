"""Late records of whole jobs: what is late, what a window says again, and that every record ends in exactly one place
(SEMANTICS §4; §8, laws 3 to 6)."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.windows.assigners import Assigner, Cumulative, Session, Sliding, Tumbling
from tests.properties.job_model import (
    Accumulation,
    Event,
    Way,
    assigners,
    certain_ways,
    events,
    expected,
    folded,
    run_windows,
    same,
    share,
    ways,
)

bounds = st.integers(0, 15)
# Often shorter than a session: what has fired of one is then over before the rest of it.
latenesses = st.one_of(st.just(0), st.integers(1, 6), st.integers(1, 40))


@pytest.mark.parametrize("accumulation", ["accumulating", "discarding", "retracting"])
@share(1)
@given(
    records=events(),
    assigner=assigners(),
    bound=bounds,
    lateness=latenesses,
    way=certain_ways(),
    late=st.booleans(),
)
def test_panes_and_late_records_are_those_of_the_definition(
    records: list[Event],
    assigner: Assigner,
    bound: int,
    lateness: int,
    accumulation: Accumulation,
    way: Way,
    late: bool,
) -> None:
    """Every pane, the late ones among them, and no other: so nothing comes for a window after its clean-up."""
    outcome = run_windows(
        records, assigner, way, bound=bound, lateness=lateness, accumulation=accumulation, late=late
    )
    model = expected(records, assigner, way, bound=bound, lateness=lateness, accumulation=accumulation)
    assert same(outcome.panes, model.panes)
    if late:
        assert same(outcome.late, model.late)
        assert (outcome.result.late, outcome.result.dropped) == (len(model.late), 0)
    else:
        assert (outcome.result.late, outcome.result.dropped) == (0, len(model.late))


@share(2)
@given(
    records=events(),
    assigner=assigners().filter(lambda a: not isinstance(a, (Sliding, Cumulative))),
    bound=bounds,
    lateness=latenesses,
    way=ways(),
    late=st.booleans(),
)
def test_each_record_ends_in_exactly_one_place(
    records: list[Event], assigner: Assigner, bound: int, lateness: int, way: Way, late: bool
) -> None:
    """Where windows do not overlap, what discarding panes count, late records and drops add up to the input."""
    outcome = run_windows(
        records, assigner, way, bound=bound, lateness=lateness, accumulation="discarding", late=late
    )
    counted = sum(pane.n for pane in outcome.panes)
    assert counted + len(outcome.late) + outcome.result.dropped == len(records)
    total = sum(pane.total for pane in outcome.panes) + sum(event.value for event in outcome.late)
    if not outcome.result.dropped:
        assert total == sum(event.value for event in records)


@share(2)
@given(
    records=events(),
    size=st.integers(1, 20),
    every=st.integers(1, 20),
    bound=bounds,
    lateness=latenesses,
    way=certain_ways(),
)
def test_discarding_panes_add_up_to_the_last_accumulating_pane(
    records: list[Event], size: int, every: int, bound: int, lateness: int, way: Way
) -> None:
    assigner = Sliding(size, every)
    parts = run_windows(records, assigner, way, bound=bound, lateness=lateness, accumulation="discarding")
    wholes = run_windows(records, assigner, way, bound=bound, lateness=lateness)
    added: dict[tuple[str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for pane in parts.panes:
        n, total = added[pane.key, pane.start]
        added[pane.key, pane.start] = (n + pane.n, total + pane.total)
    assert added == {(pane.key, pane.start): (pane.n, pane.total) for pane in wholes.panes}


@share(2)
@given(records=events(), assigner=assigners(), bound=bounds, lateness=st.integers(1, 40), way=certain_ways())
def test_retractions_telescope(
    records: list[Event], assigner: Assigner, bound: int, lateness: int, way: Way
) -> None:
    """Each takes back exactly what stood, and what stands at the end are the windows over all that was not late."""
    outcome = run_windows(
        records, assigner, way, bound=bound, lateness=lateness, accumulation="retracting", late=True
    )
    # A record that was late for one of its windows and not for another is in the one only.
    model = expected(records, assigner, way, bound=bound, lateness=lateness, accumulation="retracting")
    assert folded(outcome.panes) == folded(model.panes)
    if isinstance(assigner, (Tumbling, Session)):
        kept = list(records)
        for event in outcome.late:
            kept.remove(event)
        assert sum(n for n, _ in folded(outcome.panes).values()) == len(kept)
        assert sum(total for _, total in folded(outcome.panes).values()) == sum(e.value for e in kept)


@share(2)
@given(records=events(), assigner=assigners(), bound=bounds, way=ways(mode="batch"))
def test_nothing_is_late_in_batch(records: list[Event], assigner: Assigner, bound: int, way: Way) -> None:
    outcome = run_windows(records, assigner, way, bound=bound, late=True)
    assert outcome.late == []
    assert outcome.result.dropped == 0
    assert same(outcome.panes, expected(sorted(records, key=lambda e: e.ts), assigner, way).panes)
