"""The Kafka benchmarks' judgement of their processes' reports."""

import json
from typing import Any

import pytest

from benchmarks.kafka.generator import KEYS, Stamped
from benchmarks.kafka.judge import Arrival, Latencies, WindowResult, counted, spread
from benchmarks.kafka.latency import judged as latency_judged
from benchmarks.kafka.reading import all_of
from benchmarks.kafka.soak import at, complete, late_seconds, searched
from benchmarks.kafka.soak import judged as soak_judged
from benchmarks.program import Measurement, ProgramError

GOOD = {"p50": 100.0, "p99": 700.0, "max": 900.0}


def said(**changed: Any) -> dict[str, Any]:
    return {
        "missing": 0,
        "duplicates": 0,
        "from_append_ms": GOOD,
        "from_due_ms": GOOD,
        "rate": 20_000.0,
    } | changed


def soaked(
    *, mb: float = 0.0, lag: float = 0.0, rate: int = 1_000
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ten minutes in which memory grows by `mb` and the lag by `lag` seconds of input a minute."""
    sent = [{"at": float(second), "sent": second * rate} for second in range(601)]
    job = [
        {
            "at": float(second),
            "read": (second - second / 60 * lag) * rate,
            "mb": 100 + mb * second / 60,
            "checkpoints": second,
        }
        for second in range(601)
    ]
    return job, sent


class TestLatencies:
    def test_are_counted_from_the_append_and_from_when_it_was_due(self) -> None:
        latencies = Latencies(4, skip=1)
        arrivals = [Arrival(id=number, due=990_000, appended=995) for number in range(4)]
        latencies.take(1_000_000, arrivals)
        summary = latencies.summary()
        assert summary["from_append_ms"]["p50"] == pytest.approx(5.0)
        assert summary["from_due_ms"]["p99"] == pytest.approx(10.0)
        assert (summary["missing"], summary["duplicates"]) == (0, 0)

    def test_leave_out_the_first_ones(self) -> None:
        latencies = Latencies(4, skip=2)
        slow, quick = (Arrival(id=1, due=0, appended=0), Arrival(id=2, due=999_000, appended=999))
        latencies.take(1_000_000, [slow, quick, Arrival(id=3, due=999_000, appended=999)])
        summary = latencies.summary()
        assert summary["from_append_ms"]["max"] == pytest.approx(1.0)
        assert summary["missing"] == 1

    def test_tell_what_came_twice(self) -> None:
        latencies = Latencies(2, skip=0)
        again = Arrival(id=0, due=0, appended=0)
        latencies.take(1_000, [again, again, Arrival(id=1, due=0, appended=0)])
        assert latencies.summary()["duplicates"] == 1

    def test_a_spread_has_the_largest_and_the_percentiles(self) -> None:
        assert spread([float(value) for value in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}


class TestLatencyFigures:
    def test_are_reached_within_the_targets(self) -> None:
        assert all(figure.reached in (True, None) for figure in latency_judged("exactly_once", said()))

    @pytest.mark.parametrize(
        ("delivery", "slow"),
        [
            ("exactly_once", {"p50": 301.0, "p99": 700.0, "max": 900.0}),
            ("exactly_once", {"p50": 100.0, "p99": 801.0, "max": 900.0}),
            ("at_least_once", {"p50": 20.0, "p99": 61.0, "max": 70.0}),
        ],
    )
    def test_are_missed_beyond_them(self, delivery: str, slow: dict[str, float]) -> None:
        figures = latency_judged(delivery, said(from_append_ms=slow))
        assert [figure.reached for figure in figures].count(False) == 1

    def test_are_missed_where_the_rate_was_not_held(self) -> None:
        assert latency_judged("exactly_once", said(rate=15_000.0))[-1].reached is False

    @pytest.mark.parametrize("wrong", [{"missing": 1}, {"duplicates": 1}])
    def test_do_not_count_where_records_are_missing_or_come_twice(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ProgramError):
            latency_judged("exactly_once", said(**wrong))

    def test_may_have_duplicates_where_that_is_the_promise(self) -> None:
        assert latency_judged("at_least_once", said(duplicates=3))


class TestStampedEvents:
    def test_are_due_when_their_number_says(self) -> None:
        first, second = Stamped(20_000).values(0, 2)
        arrival = [json.loads(value) for value in (first, second)]
        assert arrival[1]["due"] - arrival[0]["due"] == 50
        assert arrival[1]["key"] == f"user-{7919 % KEYS:04d}"


class TestRateSearch:
    @pytest.mark.parametrize(("limit", "found"), [(100_000, 100_000), (210_000, 206_250), (190_000, 187_500)])
    def test_finds_the_highest_that_is_kept_up_with(self, limit: int, found: int) -> None:
        assert searched(lambda rate: rate <= limit) == found

    def test_says_that_there_is_none(self) -> None:
        with pytest.raises(ProgramError, match="not even"):
            searched(lambda rate: False)

    def test_counts_what_generator_broker_and_job_are_behind(self) -> None:
        sent = [{"at": 10.0, "sent": 0}, {"at": 20.0, "sent": 8_000}]
        lines = [{"at": 10.0, "read": 500}, {"at": 18.0, "read": 6_500}, {"at": 19.0, "read": 8_500}]
        assert late_seconds(sent, lines, 500, 1_000, 8.0) == pytest.approx(2.0)


class TestSoak:
    def test_flat_memory_and_lag_reach_the_targets(self) -> None:
        figures = soak_judged(*soaked(), 1_000)
        assert all(figure.reached in (True, None) for figure in figures)

    @pytest.mark.parametrize("grown", [{"mb": 1.2}, {"lag": 0.06}])
    def test_growth_misses_them(self, grown: dict[str, float]) -> None:
        figures = soak_judged(*soaked(**grown), 1_000)
        assert [figure.reached for figure in figures].count(False) == 1

    def test_what_the_warm_up_takes_does_not_count(self) -> None:
        job, sent = soaked()
        job = [line | {"mb": min(100.0, 2 * line["at"])} for line in job]
        assert all(figure.reached in (True, None) for figure in soak_judged(job, sent, 1_000))

    def test_the_output_has_to_hold_what_was_sent(self) -> None:
        sent = {"0": 10, "10000": 20}
        complete(sent, {"again": 0, "windows": dict(sent)})
        for wrong in ({"0": 10}, {"0": 10, "10000": 21}, sent | {"20000": 1}):
            with pytest.raises(ProgramError, match="wrong"):
                complete(sent, {"again": 0, "windows": wrong})
        with pytest.raises(ProgramError, match="more than once"):
            complete(sent, {"again": 1, "windows": sent})

    def test_windows_are_added_up_over_keys(self) -> None:
        rows = [WindowResult("a", 0, 2), WindowResult("b", 0, 3), WindowResult("a", 10, 1)]
        assert counted(rows) == {"windows": {0: 5, 10: 1}, "again": 0}
        assert counted([*rows, WindowResult("a", 10, 4)])["again"] == 1

    def test_a_count_is_known_between_points_and_constant_beyond(self) -> None:
        points = [(1.0, 10.0), (2.0, 20.0)]
        assert [at(moment, points) for moment in (0.0, 1.5, 2.0, 3.0)] == [10.0, 15.0, 20.0, 20.0]


def test_a_reader_that_did_not_read_everything_has_measured_nothing() -> None:
    measured = Measurement(events=9, seconds=1, startup=0, whole=1, peak_mb=1, rows=0, checksum="", sum=0)
    with pytest.raises(ProgramError, match="9 of 10"):
        all_of(measured, 10)
    assert all_of(measured, 9) is measured
