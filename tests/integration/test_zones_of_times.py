"""Times in state and in objects keep their zones over exchanges, write-back and restores; as keys they are in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import streamflow as sf
from streamflow.testing import TestJob

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = timezone(timedelta(hours=5, minutes=30))
TIMES = [
    datetime(2021, 10, 31, 2, 30, tzinfo=BERLIN),
    datetime(2021, 10, 31, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2021, 3, 28, 2, 30, tzinfo=BERLIN),  # a clock in Berlin never showed that
    datetime(2020, 1, 1, tzinfo=KOLKATA),
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2020, 1, 1),  # noqa: DTZ001 — a naive one
    datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=ZoneInfo("America/New_York")),
]


@dataclass(frozen=True)
class Seen:
    at: datetime


class Holder(sf.KeyedProcess):
    """Holds a time in every kind of state, and says what is there."""

    value = sf.ValueState(datetime)
    anything = sf.ValueState(Any)
    record = sf.ValueState(Seen)
    several = sf.ListState(datetime)
    by_time = sf.MapState(datetime, datetime)
    latest = sf.ReducingState(datetime, lambda before, new: new)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if event["put"]:
            at = TIMES[event["which"]]
            self.value.update(at)
            self.anything.update({"deep": [(at, {"at": at})]})
            self.record.update(Seen(at))
            self.several.add(at)
            self.several.add(at)
            self.by_time.put(at, at)
            self.latest.add(at)
            return
        record = self.record.value()
        assert record is not None
        ctx.emit(
            {
                "which": event["which"],
                "held": [
                    self.value.value(),
                    self.anything.value(),
                    record.at,
                    list(self.several),
                    list(self.by_time.values()),
                    self.latest.get(),
                ],
                "keys": list(self.by_time),
            }
        )


def expected(which: int) -> dict[str, Any]:
    at = TIMES[which]
    held = [at, {"deep": [(at, {"at": at})]}, at, [at, at], [at], at]
    return {"which": which, "held": held, "keys": [at if at.tzinfo is None else at.astimezone(UTC)]}


@pytest.mark.parametrize("restored", [1, 3])
def test_state_keeps_the_zones_of_times(restored: int) -> None:
    job = sf.Job("holding")
    schema = {"put": sf.Boolean, "which": sf.Int64}
    source = sf.MemorySource([{"put": True, "which": 0}], schema=schema)
    job.read(source).key_by("which").process(Holder).named("holder").collect()
    ask = [{"put": False, "which": which} for which in range(len(TIMES))]
    with TestJob(job, parallelism=2) as t:
        t.source().push([{**each, "put": True} for each in ask]).push(ask)
        t.checkpoint().crash().restore(parallelism=restored)
        t.source().push(ask)
        told = [t.output().rows()[: len(TIMES)], t.output().rows()[len(TIMES) :]]
    for rows in told:
        rows.sort(key=lambda row: row["which"])
        # Equal times in two zones have two reprs.
        assert repr(rows) == repr([expected(which) for which in range(len(TIMES))])


@pytest.mark.parametrize("parallelism", [1, 3])
def test_objects_keep_the_zones_of_times_over_exchanges_and_in_aggregates(parallelism: int) -> None:
    job = sf.Job("objects")
    rows = [{"k": which, "at": at} for which, at in enumerate(TIMES)]
    objects = job.read(sf.MemorySource(rows, schema=sf.OBJECTS))
    keyed = objects.map(lambda row: {**row, "again": (row["at"],)}).key_by(lambda row: row["k"])
    reduced = keyed.reduce(lambda before, new: new).named("reduced").collect()
    job.run(parallelism=parallelism)
    found = sorted((row["value"] for row in reduced.rows()), key=lambda row: row["k"])
    assert repr(found) == repr([{**row, "again": (row["at"],)} for row in rows])


class Marked(sf.KeyedProcess):
    """Counts how often a moment was named, in whatever zone."""

    counts = sf.MapState(tuple[datetime, str], int)

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        key = (event["at"], "x")
        self.counts.put(key, self.counts.get(key, 0) + 1)
        ctx.emit((ctx.key, list(self.counts.items())))


def test_equal_times_are_one_key_whatever_their_zones_and_it_is_shown_in_utc() -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    job = sf.Job("keys")
    rows = [{"at": moment.astimezone(zone)} for zone in (KOLKATA, BERLIN, UTC)]
    objects = job.read(sf.MemorySource(rows, schema=sf.OBJECTS))
    told = objects.key_by(lambda row: row["at"]).process(Marked).named("marked").collect()
    job.run(parallelism=2)
    assert [(key, counts) for key, counts in told.rows()] == [
        (moment, [((moment, "x"), count)]) for count in (1, 2, 3)
    ]
    for key, [((at, _), _)] in told.rows():
        assert key.utcoffset() == at.utcoffset() == timedelta(0)
