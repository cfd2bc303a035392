"""`keyed.match`: conditions that are functions, streams of objects, side outputs, names, plans, misuse."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pytest

import streamflow as sf
from streamflow import col

ROWS: list[dict[str, Any]] = [
    {"k": "a", "ts": 1, "v": 1},
    {"k": "b", "ts": 2, "v": 2},
    {"k": "a", "ts": 3, "v": 99},
    {"k": "b", "ts": 90, "v": 95},
]
PAIR = sf.pattern("low", col("v") < 10).then("high", col("v") > 90)
OF_ROWS = sf.pattern("low", lambda row: row["v"] < 10).then("high", lambda row: row["v"] > 90)


def read(job: sf.Job, **how: Any) -> sf.KeyedStream:
    return job.read(sf.MemorySource(ROWS, **how), event_time=sf.epoch("ts", unit="s")).key_by("k")


def test_conditions_may_be_functions() -> None:
    job = sf.Job("functions")
    out = read(job).match(OF_ROWS).collect()
    job.run()
    assert [(row["k"], row["low"], row["high"]["v"]) for row in out.rows()] == [
        ("a", {"k": "a", "ts": 1, "v": 1}, 99),
        ("b", {"k": "b", "ts": 2, "v": 2}, 95),
    ]


def test_columns_that_are_called_like_those_of_conditions_stay_as_they_are() -> None:
    job = sf.Job("names")
    rows = [{"k": "a", "ts": 1, "v": 1, "__is low": "x", "___is low": "y"}]
    stream = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"))
    out = stream.key_by("k").match(sf.pattern("low", lambda row: row["v"] < 10)).collect()
    job.run()
    assert [row["low"] for row in out.rows()] == rows


def test_matches_of_objects_hold_objects() -> None:
    job = sf.Job("objects")
    matches = read(job, schema=sf.OBJECTS).match(
        OF_ROWS.optional().then("more", lambda row: row["v"] > 50).one_or_more().within("60s")
    )
    out = matches.named("pairs").collect()
    over = matches.timed_out.collect()
    late = matches.late.collect()
    job.run(mode="streaming")
    by_key = [
        (row["k"], row["low"]["v"], row["high"], [each["v"] for each in row["more"]]) for row in out.rows()
    ]
    assert by_key == [("a", 1, None, [99])]
    assert [(row["k"], row["low"]["v"], row["more"]) for row in over.rows()] == [
        ("a", 1, []),
        ("b", 2, []),
    ]
    assert late.rows() == []


def test_a_group_of_objects() -> None:
    """Functions are conditions in a group, and may end it."""
    job = sf.Job("groups")
    group = sf.pattern(OF_ROWS).one_or_more().until(lambda row: row["v"] == 98).within("60s")
    rows = [{"k": "a", "ts": ts, "v": v} for ts, v in enumerate([1, 99, 2, 97, 3, 98, 99])]
    stream = job.read(sf.MemorySource(rows, schema=sf.OBJECTS), event_time=sf.epoch("ts", unit="s"))
    out = stream.key_by("k").match(group, after_match="skip_to_first:high").collect()
    job.run()
    found = [[[each["v"] for each in row[step]] for step in ("low", "high")] for row in out.rows()]
    assert found == [[[1], [99]], [[2], [97]]]


def test_late_events_come_out_one_and_all_where_they_are_read() -> None:
    for read_late, dropped in ((True, 0), (False, 1)):
        job = sf.Job("late")
        rows = [{"k": "a", "ts": ts, "v": v} for ts, v in ((90, 50), (10, 50), (11, 1))]
        stream = job.read(
            sf.MemorySource(rows, batch_rows=1), event_time=sf.epoch("ts", unit="s"), watermark="5s"
        )
        matches = stream.key_by("k").match(PAIR)
        matches.collect()
        late = matches.late.collect() if read_late else None
        assert job.run(mode="streaming").dropped == dropped
        assert late is None or [row["v"] for row in late.rows()] == [50, 1]


def test_a_key_may_be_a_function() -> None:
    job = sf.Job("keys")
    stream = job.read(sf.MemorySource(ROWS), event_time=sf.epoch("ts", unit="s"))
    out = stream.key_by(lambda row: row["k"].upper()).match(PAIR).collect()
    job.run()
    assert [(row["key"], list(row["low"])) for row in out.rows()] == [
        ("A", ["k", "ts", "v"]),
        ("B", ["k", "ts", "v"]),
    ]


def test_calls_about_the_operator_are_about_the_matching_one() -> None:
    for schema in ({}, {"schema": sf.OBJECTS}):
        job = sf.Job("named")
        matches = read(job, **schema).match(OF_ROWS).named("pairs")
        matches.parallel(2)
        matches.on_error("skip").collect()
        assert "pairs" in str(job.plan())
        job.run()


def test_the_plan_says_that_partial_matches_wait_for_ever() -> None:
    for sought, says in (
        (PAIR, True),
        (PAIR.within("1m"), False),
        (sf.pattern("one").next("two"), False),
        (sf.pattern("one").then("two", within="1m").one_or_more(gap="1m"), False),
        (sf.pattern("one").then("two", within="1m").one_or_more(), True),
    ):
        job = sf.Job("plan")
        read(job).match(sought).collect()
        assert ("wait for ever" in str(job.plan())) is says


def test_partial_matches_without_end_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def endless() -> AsyncIterator[dict[str, int]]:
        yield ROWS[0]

    job = sf.Job("endless")
    source = sf.source(endless, schema={"k": str, "ts": int, "v": int})
    keyed = job.read(source, event_time=sf.epoch("ts", unit="s")).key_by("k")
    with caplog.at_level(logging.WARNING):
        for sought in (PAIR, PAIR.within("1m"), sf.pattern("one").next("two")):
            keyed.match(sought)
        read(sf.Job("ending")).match(PAIR)
    assert [record.getMessage() for record in caplog.records] == [
        "match-1 keeps partial matches for ever: end the pattern with .within(…)"
    ]


def test_an_error_of_a_function_is_its_record_s() -> None:
    job = sf.Job("errors")
    stream = job.read(
        sf.MemorySource([*ROWS, {"k": "a", "ts": 99, "v": None}]), event_time=sf.epoch("ts", unit="s")
    )
    out = stream.key_by("k").match(OF_ROWS).on_error("skip").collect()
    assert job.run().errors == 1
    assert len(out) == 2


def with_one_bad(job: sf.Job) -> sf.MatchedStream:
    """The match of two events, between which an expression fails for one."""
    rows = [{"k": "a", "ts": 1, "v": "1"}, {"k": "a", "ts": 2, "v": "x"}, {"k": "a", "ts": 3, "v": "99"}]
    stream = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"))
    number = col("v").cast(sf.Int64)
    return stream.key_by("k").match(sf.pattern("low", number < 10).then("high", number > 90))


def test_an_error_of_an_expression_is_its_record_s() -> None:
    job = sf.Job("errors")
    out = with_one_bad(job).on_error("skip").collect()
    assert job.run().errors == 1
    assert len(out) == 1


def test_errors_may_go_to_a_sink() -> None:
    job = sf.Job("errors")
    bad: list[Any] = []

    async def keep(records: list[Any]) -> None:
        bad.extend(records)

    out = with_one_bad(job).on_error(sf.sink(keep)).collect()
    job.run()
    assert len(out) == 1
    assert len(bad) == 1


def test_null_keys_are_refused_also_where_no_condition_holds() -> None:
    """The record is shown as it was read."""
    for sought in (PAIR, OF_ROWS):
        job = sf.Job("nulls")
        bad = {"k": None, "ts": 99, "v": 50}
        stream = job.read(sf.MemorySource([*ROWS, bad]), event_time=sf.epoch("ts", unit="s"))
        stream.key_by("k").match(sought).collect()
        with pytest.raises(sf.RecordError, match="the key 'k' is null") as raised:
            job.run()
        assert raised.value.record == str(bad)


@dataclass
class Reading:
    k: str
    ts: int
    v: int


def test_a_function_may_see_the_records_of_earlier_steps() -> None:
    def higher(record: Reading, steps: dict[str, list[Reading]]) -> bool:
        return record.v > steps["low"][-1].v + 10 // (record.v - 2)

    def higher_row(row: Any, steps: dict[str, list[Any]]) -> bool:
        return higher(
            Reading(**row), {name: [Reading(**each) for each in taken] for name, taken in steps.items()}
        )

    for how, condition in (({}, higher), ({"schema": sf.OBJECTS}, higher_row)):
        job = sf.Job("earlier")
        sought = sf.pattern("low", lambda row: row["v"] < 9).then("high", condition)
        rows = [*ROWS, {"k": "b", "ts": 4, "v": 2}]
        stream = job.read(sf.MemorySource(rows, **how), event_time=sf.epoch("ts", unit="s"))
        out = stream.key_by("k").match(sought).on_error("skip").collect()
        # A value of 2 behind another one is divided by 0: an error, once, and no match.
        assert job.run().errors == 1
        assert [(row["low"]["v"], row["high"]["v"]) for row in out.rows()] == [(1, 99), (2, 95), (2, 95)]


def test_a_function_gives_no_expression() -> None:
    job = sf.Job("functions")
    earlier = sf.pattern("low").then("high", lambda row: row["v"] > sf.step("low").v)
    read(job).match(earlier).collect()
    with pytest.raises(sf.RecordError, match="takes them as a second argument"):
        job.run()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda keyed: keyed.match("low"), "match got 'low'"),
        (lambda keyed: keyed.match(PAIR, after_match="skip"), "after_match is 'skip'"),
        (lambda keyed: keyed.match(PAIR, after_match="skip_to_last:x"), "no step|'x'"),
        (lambda keyed: keyed.match(PAIR).timed_out, "has no time"),
        (lambda keyed: keyed.match(PAIR.not_then("no", col("v") > 0)), "for how long"),
        (lambda keyed: PAIR.then("more", within=5), "has no unit"),
        (lambda keyed: reduce(lambda inner, _: sf.pattern(inner), range(99), PAIR), "in one another"),
        (lambda keyed: PAIR.times(1, gap="5s"), "no two events"),
        (lambda keyed: PAIR.not_then("no", col("v") > 0, within="1m").then("more"), "comes behind it"),
        (lambda keyed: keyed.match(PAIR.within("1m").then("more", within="2m")), "2m between two events"),
    ],
)
def test_misuse_is_refused_when_the_job_is_built(call: Any, message: str) -> None:
    with pytest.raises(sf.JobDefinitionError, match=message):
        call(read(sf.Job("misuse")))


def test_a_pattern_needs_event_time_and_functions_for_objects() -> None:
    untimed = sf.Job("untimed").read(sf.MemorySource(ROWS)).key_by("k")
    with pytest.raises(sf.JobDefinitionError, match="needs event time"):
        untimed.match(PAIR)
    with pytest.raises(sf.JobDefinitionError, match="Python objects"):
        read(sf.Job("objects"), schema=sf.OBJECTS).match(PAIR)


def test_a_column_without_a_name_is_a_column_of_matches_and_conditions() -> None:
    job = sf.Job("nameless")
    rows = [{"": "a", "ts": 1}, {"": "b", "ts": 2}]
    stream = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s"))
    rising = sf.pattern("one").then("more", col("") > sf.step("one")[""])
    found = stream.key_by(sf.lit("k").alias("k")).match(rising).collect()
    keyed = stream.key_by("").match(sf.pattern("one")).collect()
    job.run()
    assert [(row["one"][""], row["more"][""]) for row in found.rows()] == [("a", "b")]
    assert [row[""] for row in keyed.rows()] == ["a", "b"]
