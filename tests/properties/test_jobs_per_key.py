"""Whole records chosen and put in order by whole jobs, against their definitions in plain Python (SEMANTICS §8, laws 1,
2, 5 and 6): one record of each key and group, the first rows of each key, records in order of event time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.testing import simulate
from streamflow.testing.results import final_rows
from tests.properties.job_model import Event, Way, disordered, events, read, share, value_of, ways

BOUND = 6
Keep = Literal["first", "last"]


def key_of(way: Way) -> Any:
    return (lambda row: row["key"]) if way.layout == "functions" else "key"


def groups(records: Sequence[Event], within: int | None) -> list[list[Event]]:
    """The records of each key, in order, cut where one lies `within` or more after the first of its group."""
    found: list[list[Event]] = []
    for key in sorted({event.key for event in records}):
        begun = False
        for event in sorted(event for event in records if event.key == key):
            if begun and (within is None or event.ts - found[-1][0].ts < within):
                found[-1].append(event)
            else:
                found.append([event])
                begun = True
    return found


def event_of(row: dict[str, Any]) -> Event:
    return Event(row["key"], row["ts"], row["value"])


@share(1)
@given(
    records=disordered(BOUND),
    within=st.one_of(st.none(), st.integers(1, 40)),
    keep=st.sampled_from(["first", "last"]),
    way=ways(),
)
def test_one_record_of_each_key_and_group_is_kept(
    records: list[Event], within: int | None, keep: Keep, way: Way
) -> None:
    job = sf.Job("once")
    stream = read(job, records, way, bound=BOUND)
    span = None if within is None else timedelta(microseconds=within)
    once = stream.deduplicate(key_of(way), within=span, keep=keep)
    out = once.collect()
    result = job.run(**way.settings)
    rows = out.rows()
    if keep == "last" and within is None:
        rows = final_rows(rows, changing=True)
        rows = [row["value"] for row in rows] if way.layout == "objects" else rows
    kept = [event_of(row) for row in rows]
    wanted = [group[0] if keep == "first" else group[-1] for group in groups(records, within)]
    if way.layout == "objects":
        # Objects of one moment are in the order of their bytes, which is none of these.
        assert set(kept) <= set(records)
        kept, wanted = ([event._replace(value=0) for event in each] for each in (kept, wanted))
    assert Counter(kept) == Counter(wanted)
    assert (result.dropped, result.duplicates) == (0, len(records) - len(wanted))


@share(2)
@given(records=disordered(0, span=6), way=ways())
def test_distinct_records_are_each_there_once(records: list[Event], way: Way) -> None:
    job = sf.Job("distinct")
    out = read(job, records, way).distinct().collect()
    result = job.run(**way.settings)
    assert Counter(map(event_of, out.rows())) == Counter(set(records))
    assert result.duplicates == len(records) - len(set(records))


@share(1)
@given(records=events(), n=st.integers(1, 4), descending=st.booleans(), way=ways())
def test_changes_leave_the_first_rows_of_each_key(
    records: list[Event], n: int, descending: bool, way: Way
) -> None:
    job = sf.Job("top")
    stream = read(job, records, way)
    keyed = stream.key_by(key_of(way)).top_k(n, value_of(way), descending=descending)
    out, of_all = keyed.collect(), stream.top_k(n, value_of(way), descending=descending).collect()
    job.run(**way.settings)
    order = sorted(records, key=lambda e: (-e.value if descending else e.value, e.ts, e.key))
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in order:
        by_key[event.key].append(event)
    wanted = [event for listed in by_key.values() for event in listed[:n]]
    if way.mode == "batch":
        assert {row["change"] for row in out.rows()} <= {"insert"}
    for rows, expected in ((out.rows(), wanted), (of_all.rows(), order[:n])):
        final = final_rows(rows, changing=True)
        found = [event_of(row["value"] if way.layout == "objects" else row) for row in final]
        assert Counter(event.key + str(event.value) + str(event.ts) for event in found) == Counter(
            event.key + str(event.value) + str(event.ts) for event in expected
        )


@share(2)
@given(records=events(most=20), n=st.integers(1, 3), way=ways())
def test_the_first_of_totals_are_the_first_of_the_last_totals(records: list[Event], n: int, way: Way) -> None:
    """The input changes: rows come up again when those before them go."""
    job = sf.Job("leaders")
    totals = read(job, records, way).key_by(key_of(way)).aggregate(total=sf.sum(value_of(way)))
    out = totals.top_k(n, ["total", "key"]).collect()
    job.run(**way.settings)
    summed: Counter[str] = Counter()
    for event in records:
        summed[event.key] += event.value
    wanted = sorted(((total, key) for key, total in summed.items()), reverse=True)[:n]
    found = [(row["total"], row["key"]) for row in final_rows(out.rows(), changing=True)]
    assert Counter(found) == Counter(wanted)


@share(1)
@given(records=events(), above=st.integers(-9, 9), way=ways())
def test_totals_of_totals_are_those_of_the_last_totals(records: list[Event], above: int, way: Way) -> None:
    """Behind a filter, where half of an update may be missing; in batch mode there is nothing to take back."""
    job = sf.Job("totals")
    totals = read(job, records, way).key_by(key_of(way)).aggregate(total=sf.sum(value_of(way)), n=sf.count())
    large = totals.filter(sf.col("total") > above)
    whole = {
        "keys": sf.count(),
        "sum": sf.sum("total"),
        "least": sf.min("total"),
        "different": sf.n_unique("total"),
    }
    out, kept = large.key_by("n").aggregate(**whole).collect(), large.collect()
    job.run(**way.settings)
    values: dict[str, list[int]] = defaultdict(list)
    for event in records:
        values[event.key].append(event.value)
    by_number: dict[int, list[int]] = defaultdict(list)
    for of_key in values.values():
        if sum(of_key) > above:
            by_number[len(of_key)].append(sum(of_key))
    wanted = {
        number: {
            "n": number,
            "keys": len(sums),
            "sum": sum(sums),
            "least": min(sums),
            "different": len(set(sums)),
        }
        for number, sums in by_number.items()
    }
    assert {row["n"]: row for row in final_rows(out.rows(), changing=True)} == wanted
    assert len(final_rows(kept.rows(), changing=True)) == sum(map(len, by_number.values()))


@share(2)
@given(records=disordered(BOUND), way=ways())
def test_records_are_put_in_order_of_event_time(records: list[Event], way: Way) -> None:
    job = sf.Job("sorted")
    out = read(job, records, way, bound=BOUND).sort("event_time").collect()
    result = job.run(**way.settings)
    found = [event_of(row) for row in out.rows()]
    assert all(one.ts <= other.ts for one, other in pairwise(found))
    assert Counter(found) == Counter(records)
    if way.layout != "objects":
        assert found == sorted(records, key=lambda event: (event.ts, event.key, event.value))
    assert result.dropped == 0


def test_crashes_and_restores_at_other_parallelism_change_nothing() -> None:
    rows = [{"key": f"k{n % 7}", "ts": n // 2, "value": n % 5} for n in range(80)]
    job = sf.Job("crashing")
    source = sf.MemorySource(rows, batch_rows=4)
    stream = job.read(source, event_time=sf.epoch("ts", unit="s"), watermark="3s")
    stream.deduplicate("key", within="9s").collect()
    stream.deduplicate("key", within="9s", keep="last").collect()
    stream.key_by("key").top_k(2, "value").collect()
    sums = stream.key_by("key").aggregate(total=sf.sum("value")).filter(sf.col("total") > 9)
    sums.key_by(sf.col("total") % 3).aggregate(n=sf.count(), most=sf.max("total")).collect()
    stream.sort("event_time").collect()
    assert not simulate(job, seeds=3).failures
