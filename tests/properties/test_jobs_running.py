"""Running totals of whole jobs: the changes, applied one after the other, leave the group-by of everything
(SEMANTICS §8, laws 2 and 5)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given

import streamflow as sf
from tests.properties.job_model import (
    Event,
    Way,
    events,
    folded,
    keyed,
    panes_of,
    read,
    share,
    value_of,
    ways,
)


def totals(records: list[Event]) -> dict[tuple[str, int, int], tuple[int, int]]:
    summed: dict[str, list[int]] = defaultdict(list)
    for event in records:
        summed[event.key].append(event.value)
    bounds = (-(2**63) + 1, 2**63 - 1)
    return {(key, *bounds): (len(values), sum(values)) for key, values in summed.items()}


@share(2)
@given(records=events(), way=ways())
def test_changes_leave_the_totals(records: list[Event], way: Way) -> None:
    job = sf.Job("totals")
    out = keyed(read(job, records, way), way).aggregate(n=sf.count(), total=sf.sum(value_of(way))).collect()
    result = job.run(**way.settings)
    changes = panes_of(out.frame())
    assert folded(changes) == totals(records)
    assert result.dropped == 0
    if way.mode == "batch":
        assert {change.change for change in changes} <= {"insert"}


@share(2)
@given(records=events(), way=ways())
def test_a_total_that_stays_as_it_was_is_no_change(records: list[Event], way: Way) -> None:
    job = sf.Job("largest")
    out = keyed(read(job, records, way), way).aggregate(largest=sf.max(value_of(way))).collect()
    job.run(**way.settings)
    last: dict[str, int] = {}
    for row in out.rows():
        if row["change"] == "update_before":
            assert row["largest"] == last[row["key"]]
        else:
            assert row["largest"] != last.get(row["key"])
            last[row["key"]] = row["largest"]
    assert last == {key: max(e.value for e in records if e.key == key) for key in {e.key for e in records}}


@share(2)
@given(records=events(), way=ways())
def test_reduce_gives_the_same_in_whatever_order_it_is_called(records: list[Event], way: Way) -> None:
    """By key, running, and in a window."""

    def later(left: Any, right: Any) -> Any:
        return max(left, right, key=lambda row: (row["ts"], row["value"]))

    job = sf.Job("latest")
    stream = keyed(read(job, records, way), way)
    running = stream.reduce(later).collect()
    windows = stream.window(sf.global_window()).reduce(later).collect()
    job.run(**way.settings)
    latest = {
        key: max((e for e in records if e.key == key), key=lambda e: (e.ts, e.value))._asdict()
        for key in {e.key for e in records}
    }
    last = {row["key"]: row["value"] for row in running.rows() if row["change"] != "update_before"}
    assert last == latest
    assert {row["key"]: row["value"] for row in windows.rows()} == latest
