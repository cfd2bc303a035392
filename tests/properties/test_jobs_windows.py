"""Windows of whole jobs against their definition: any batching, layout, mode and parallelism, any order within the
disorder bound (SEMANTICS §8, laws 1 and 2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.windows.assigners import Assigner, GlobalWindow
from tests.properties.job_model import (
    Event,
    Way,
    assigners,
    disordered,
    events,
    expected,
    keyed,
    panes_of,
    read,
    run_windows,
    same,
    share,
    ways,
)

BOUND = 10


@share(2)
@given(records=disordered(BOUND), assigner=assigners(), way=ways())
def test_every_way_to_run_gives_the_windows_of_the_definition(
    records: list[Event], assigner: Assigner, way: Way
) -> None:
    outcome = run_windows(records, assigner, way, bound=BOUND)
    model = expected(records, assigner, way, bound=BOUND)
    assert same(outcome.panes, model.panes)
    assert outcome.result.dropped == 0
    assert model.late == []


@share(2)
@given(
    orders=events(most=15).flatmap(lambda e: st.tuples(st.just(e), st.permutations(e))),
    assigner=assigners(),
    way=ways(),
)
def test_any_order_within_the_disorder_bound_gives_the_same_panes(
    orders: tuple[list[Event], list[Event]], assigner: Assigner, way: Way
) -> None:
    records, shuffled = orders
    sure = max((e.ts for e in records), default=0) - min((e.ts for e in records), default=0)
    one = run_windows(records, assigner, way, bound=sure)
    other = run_windows(shuffled, assigner, way, bound=sure)
    assert same(one.panes, other.panes)
    assert (one.result.dropped, other.result.dropped) == (0, 0)


@share(2)
@given(records=events(), way=ways())
def test_the_global_window_holds_everything_and_fires_once(records: list[Event], way: Way) -> None:
    outcome = run_windows(records, GlobalWindow(), way)
    assert same(outcome.panes, expected(records, GlobalWindow(), way).panes)
    assert outcome.result.dropped == 0


@share(2)
@given(
    records=disordered(BOUND),
    inner=st.integers(1, 8),
    factor=st.integers(1, 4),
    way=ways(),
    parts=st.integers(1, 3),
)
def test_windows_over_windows_lose_nothing(
    records: list[Event], inner: int, factor: int, way: Way, parts: int
) -> None:
    """Results carry their window's last moment, so windows of a multiple of the size compose."""
    job = sf.Job("composed")
    small = keyed(read(job, records, way, bound=BOUND), way).window(sf.tumbling(f"{inner}us"))
    counted = small.aggregate(part=sf.count()).parallel(parts)
    large = counted.key_by("key").window(sf.tumbling(f"{inner * factor}us"))
    out = large.aggregate(n=sf.sum("part"), total=sf.count()).collect()
    result = job.run(**way.settings)
    direct = run_windows(records, sf.tumbling(f"{inner * factor}us"), way, bound=BOUND)
    assert same(
        [(p.key, p.start, p.n) for p in panes_of(out.frame())], [(p.key, p.start, p.n) for p in direct.panes]
    )
    assert result.dropped == 0


@share(2)
@given(left=disordered(BOUND, most=15), right=disordered(BOUND, most=15), assigner=assigners(), way=ways())
def test_a_union_waits_for_its_slower_input(
    left: list[Event], right: list[Event], assigner: Assigner, way: Way
) -> None:
    job = sf.Job("union")
    both = read(job, left, way, bound=BOUND).union(read(job, right, way, bound=BOUND))
    out = keyed(both, way).window(assigner).aggregate(n=sf.count(), total=sf.sum("value")).collect()
    result = job.run(**way.settings)
    assert same(panes_of(out.frame()), expected(left + right, assigner, Way(mode="batch")).panes)
    assert result.dropped == 0
