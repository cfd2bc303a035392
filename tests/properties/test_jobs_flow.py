"""Event time on every edge of whole jobs, and what is left in state at the end (SEMANTICS §3; §8, laws 3, 7 and 8).

A probe is put between operators through `Stream.apply`; panes that are stored and operators that are built are watched
where the window operator makes them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.api.stream import through
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import Operator, OperatorContext
from streamflow.operators.totals import running_totals
from streamflow.operators.windows import windowing
from streamflow.state.frames.store import FrameStore
from streamflow.windows.assigners import Assigner, GlobalWindow
from tests.properties.job_model import (
    Accumulation,
    Event,
    Way,
    assigners,
    disordered,
    events,
    keyed,
    read,
    share,
    ways,
)
from tests.properties.probes import Probe

BOUND = 10


@share(2)
@given(
    left=disordered(BOUND, most=15),
    right=disordered(BOUND, most=15),
    assigner=assigners(),
    parts=st.integers(1, 3),
    way=ways(),
)
def test_event_time_never_goes_back_and_nothing_comes_behind_it(
    left: list[Event], right: list[Event], assigner: Assigner, parts: int, way: Way
) -> None:
    """After the sources, after a union, after windows and totals, and behind exchanges of other parallelism."""
    probes = [Probe() for _ in range(6)]
    job = sf.Job("probed")
    streams = [
        through(read(job, records, way, bound=BOUND), probe)
        for records, probe in zip((left, right), probes, strict=False)
    ]
    both = through(streams[0].union(streams[1]), probes[2])
    windows = keyed(both, way).window(assigner).aggregate(n=sf.count()).parallel(parts)
    panes = through(windows, probes[3])
    running = panes.key_by("key").aggregate(n=sf.sum("n")).parallel(way.parallelism)
    totals = through(running, probes[4])
    kept = through(both.key_by("key").window(sf.global_window()).aggregate(n=sf.count()), probes[5])
    totals.collect()
    kept.collect()
    job.run(**way.settings)
    for probe in probes:
        probe.check()


@contextmanager
def watched() -> Generator[tuple[list[FrameStore], list[Operator]]]:
    """Every pane store and window operator made meanwhile."""
    stores: list[FrameStore] = []
    operators: list[Operator] = []

    class Watched(FrameStore):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            stores.append(self)

    build = windowing.WindowAggregateSpec.build

    def noted(
        self: windowing.WindowAggregateSpec, ctx: OperatorContext, inputs: Sequence[StreamType]
    ) -> Operator:
        operators.append(build(self, ctx, inputs))
        return operators[-1]

    with (
        patch.object(windowing, "FrameStore", Watched),
        patch.object(running_totals, "FrameStore", Watched),
        patch.object(windowing.WindowAggregateSpec, "build", noted),
    ):
        yield stores, operators


@share(2)
@given(
    records=events(least=1),
    assigner=st.one_of(assigners(), st.just(GlobalWindow())),
    lateness=st.integers(0, 20),
    accumulation=st.sampled_from(["accumulating", "discarding", "retracting"]),
    budget=st.sampled_from([100, 1 << 20]),
    way=ways(),
)
def test_windows_leave_no_state_behind(
    records: list[Event],
    assigner: Assigner,
    lateness: int,
    accumulation: Accumulation,
    budget: int,
    way: Way,
) -> None:
    """Not in memory, nor, where they had to spill, in the backend."""
    job = sf.Job("emptied")
    windowed = keyed(read(job, records, way), way).window(
        assigner, allowed_lateness=timedelta(microseconds=lateness), accumulation=accumulation
    )
    windowed.aggregate(n=sf.count(), values=sf.collect_list("value")).collect()
    with watched() as (stores, operators):
        job.run(**way.settings, memory_budget=budget)
    assert len(operators) == way.parallelism
    assert stores
    assert [(store.panes(), store.rows, store.nbytes, store.spilled) for store in stores] == [
        ((), 0, 0, 0) for _ in stores
    ]
    for operator in operators:
        snapshot = operator.snapshot()
        assert not any(snapshot.tables.values())
        assert not any(snapshot.values.get(name) for name in ("panes", "fired"))
        assert not snapshot.values.get("buckets", {}).get("spans")
        assert not snapshot.values.get("stored", {}).get("spans")


@share(2)
@given(records=events(least=1), lateness=st.integers(0, 5), way=ways(mode="streaming"))
def test_state_goes_at_clean_up_not_at_the_end(records: list[Event], lateness: int, way: Way) -> None:
    """After a record far ahead, what was before it takes no room."""
    job = sf.Job("cleaned")
    far = [*records, Event("z", 10_000, 0), Event("z", 20_000, 0)]
    windowed = keyed(read(job, far, Way(way.mode, way.parallelism, 1, 1, way.layout)), way).window(
        sf.tumbling("10us"), allowed_lateness=timedelta(microseconds=lateness)
    )
    left: list[int] = []

    with watched() as (stores, _):

        def note(frame: pl.DataFrame) -> pl.DataFrame:
            if frame.filter(pl.col("key") == "z").height:
                left.append(sum(store.rows for store in stores))
            return frame

        windowed.aggregate(n=sf.count()).map_batches(note).collect()
        job.run(**{**way.settings, "parallelism": 1})
    # The window of the first far record fires when the second one is already there.
    assert left[0] <= 2
