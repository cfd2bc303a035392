"""Own assigners, the cost of triggers, and misuse; the panes themselves are in transcripts and properties."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.testing import OperatorHarness, check_modes_agree
from streamflow.windows.assigners import Session, Tumbling

RECORDS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
COUNTS = (("n", sf.count()), ("total", sf.sum("v")))


def driven(assigner: Any, trigger: Any = None, **more: Any) -> OperatorHarness:
    spec = WindowAggregateSpec(keys=("k",), assigner=assigner, aggregates=COUNTS, trigger=trigger, **more)
    return OperatorHarness(spec, RECORDS, reads=())


def push(harness: OperatorHarness, *events: tuple[str, int, int]) -> OperatorHarness:
    return harness.push([{"k": k, "v": v} for k, _, v in events], times=[ts for _, ts, _ in events])


def panes(harness: OperatorHarness) -> list[tuple[Any, ...]]:
    rows = harness.output()
    return [(r["k"], r["window_start"].microsecond, r["window_end"].microsecond, r["total"]) for r in rows]


class Odd(sf.WindowAssigner):
    """Windows of three that begin at multiples of ten; the other times are in none."""

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        at = times.to_physical()
        starts = pl.select(pl.when(at % 10 < 3).then(at - at % 10)).to_series()
        return starts, starts + 3


class Bursts(sf.WindowAssigner):
    """Spans of five that merge where they intersect."""

    merging = True

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        return times, times.dt.offset_by("5us")


class Validity(sf.WindowAssigner):
    """Each record until the next one: a validity window."""

    merging = True
    end = 1_000

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        at = times.to_physical()
        return at, pl.Series([self.end]).new_from_index(0, len(at))

    def merge(self, starts: pl.Series, ends: pl.Series) -> tuple[pl.Series, pl.Series]:
        following = sorted({*starts, self.end})
        upper = dict(itertools.pairwise(following))
        return starts, pl.Series([upper[start] for start in starts])


class TestOwn:
    def test_windows_without_merging(self) -> None:
        harness = push(driven(Odd()), ("a", 1, 1), ("a", 2, 2), ("a", 5, 4), ("b", 11, 8)).watermark(2)
        assert panes(harness) == [("a", 0, 3, 3)]
        assert harness.metrics.counter("streamflow_records_in_no_window_total", "").value == 1
        push(harness, ("a", 0, 16)).finish()
        assert harness.metrics.late_dropped.value == 1
        assert panes(harness)[1:] == [("b", 10, 13, 8)]

    def test_late_records_fire_again_as_in_other_windows(self) -> None:
        harness = push(driven(Odd(), allowed_lateness=10), ("a", 1, 1)).watermark(5)
        push(harness, ("a", 2, 2)).watermark(12)
        push(harness, ("a", 2, 4))
        assert panes(harness) == [("a", 0, 3, 1), ("a", 0, 3, 3)]
        assert harness.metrics.late_dropped.value == 1

    def test_windows_with_one_end_wait_for_the_clock_each_by_itself(self) -> None:
        class UntilTen(sf.WindowAssigner):
            def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
                return times, pl.Series([10]).new_from_index(0, len(times))

        harness = driven(UntilTen(), sf.repeatedly(sf.after_processing_time("5s")))
        for ts in (1, 2):
            push(harness, ("a", ts, ts))
            harness.clock.advance("4s")
            harness.tick()
        harness.clock.advance("2s")
        harness.tick()
        assert panes(harness) == [("a", 1, 10, 1), ("a", 2, 10, 2)]

    def test_windows_that_merge(self) -> None:
        harness = push(driven(Bursts()), ("a", 1, 1), ("a", 8, 2), ("b", 3, 4))
        push(harness, ("a", 5, 8)).watermark(20)
        assert panes(harness) == [("b", 3, 8, 4), ("a", 1, 13, 11)]

    def test_windows_that_give_way(self) -> None:
        harness = push(driven(Validity()), ("a", 10, 1), ("a", 30, 2), ("b", 5, 4))
        push(harness, ("a", 20, 8), ("a", 20, 16)).watermark(25)
        assert panes(harness) == [("a", 10, 20, 1)]
        assert panes(harness.finish())[1:] == [("a", 20, 30, 24), ("b", 5, 1_000, 4), ("a", 30, 1_000, 2)]

    @pytest.mark.parametrize(
        ("assign", "said"),
        [
            (lambda times: times, "not two Series"),
            (lambda times: (times, 5), "gave a int, not a Series"),
            (lambda times: (times, pl.concat([times, times])), "gave 4 bounds for 2 times"),
            (
                lambda times: (times, times.to_physical() % 2 + 2),
                "ends where it starts.*\n  record: .*'v': 7",
            ),
            (
                lambda times: (times, times.to_physical() + 1 // (times.to_physical() % 2).min()),
                "assign raised ZeroDivisionError.*\n  record: .*'v': 7",
            ),
            (lambda times: (times, times), "ends where it starts"),
            (lambda times: (times, times.cast(pl.String)), "bounds of type String"),
            (lambda times: (times, pl.Series([None, 9])), "a start without an end"),
            (lambda times: 1 // 0, "assign raised ZeroDivisionError"),
        ],
    )
    def test_what_is_no_window_is_told(self, assign: Callable[[pl.Series], Any], said: str) -> None:
        class Broken(sf.WindowAssigner):
            def assign(self, times: pl.Series) -> Any:
                return assign(times)

        with pytest.raises(sf.RecordError, match=said):
            push(driven(Broken()), ("a", 1, 1), ("a", 2, 7))

    def test_windows_that_still_intersect_are_told(self) -> None:
        class Broken(Bursts):
            def merge(self, starts: pl.Series, ends: pl.Series) -> tuple[pl.Series, pl.Series]:
                return starts, ends

        with pytest.raises(sf.RecordError, match=r"intersect[^$]*record: {'k': 'a', 'windows': \['1970"):
            push(driven(Broken()), ("a", 1, 1), ("a", 2, 1))


class TestCost:
    @pytest.mark.parametrize(
        "trigger", [sf.repeatedly(sf.after_count(2)), sf.repeatedly(sf.after_processing_time("5s"))]
    )
    def test_a_batch_looks_at_its_own_windows_only(
        self, trigger: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness = driven(Tumbling(1_000), trigger, allowed_lateness=10**9)
        harness.push(
            [{"k": f"key-{n}", "v": 1} for n in range(20_000)], times=[n % 5_000 for n in range(20_000)]
        )
        harness.clock.advance("10s")
        harness.tick().watermark(1_500)
        ((_, operator),) = harness._subtasks
        states = operator._states  # type: ignore[attr-defined]
        seen: list[int] = []
        look_up = states.look_up

        def counted(pane: int, keys: Any) -> Any:
            found = look_up(pane, keys)
            seen.append(0 if found is None else found.height)
            return found

        monkeypatch.setattr(states, "look_up", counted)
        monkeypatch.setattr(states, "read_slice", None)  # nothing is read as a whole
        push(harness, ("key-7", 7, 1), ("key-9", 4_009, 1))
        harness.clock.advance("10s")
        harness.tick()
        assert max(seen, default=0) <= 2
        assert sum(seen) <= 6

    def test_a_session_that_does_not_grow_waits_for_its_end_once(self) -> None:
        harness = driven(Session(10), sf.repeatedly(sf.after_count(100)))
        for _ in range(5):
            push(harness, ("a", 1, 1), ("a", 5, 1))
        ((_, operator),) = harness._subtasks
        assert len(operator._ends) == 1  # type: ignore[attr-defined]

    def test_a_window_that_is_woken_too_early_waits_on(self) -> None:
        """A window beside many others, or after a restore, is noted twice: it was in at 8 s, and fired at 10 s."""
        for others in (0, 40):
            harness = driven(Tumbling(1_000_000), sf.repeatedly(sf.after_processing_time("10s")))
            push(harness, *((f"key-{n}", n, 1) for n in range(others + 1)))
            for pause, value in (("8s", 2), ("4s", 4), ("6s", None), ("4s", None)):
                harness.clock.advance(pause)
                harness.tick()
                if not others:
                    harness.restore(harness.snapshot())
                if value:
                    push(harness, ("key-0", 0, value))
            assert [row["total"] for row in harness.output() if row["k"] == "key-0"] == [3, 7]

    def test_windows_that_are_not_due_are_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        early = sf.after_watermark(early=sf.after_processing_time("5s"), late=sf.after_count(1))
        harness = driven(Tumbling(10), early)
        harness.push([{"k": "a", "v": 1}] * 300, times=range(300))
        ((_, operator),) = harness._subtasks
        states = operator._states  # type: ignore[attr-defined]
        read: list[int] = []
        read_slice = states.read_slice

        def noted(panes: Sequence[int], *at: int) -> pl.DataFrame | None:
            read.extend(panes)
            found: pl.DataFrame | None = read_slice(panes, *at)
            return found

        monkeypatch.setattr(states, "read_slice", noted)
        harness.watermark(25)
        assert sorted(read) == [10, 20]


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: sf.after_count(0), r"after_count\(0\)"),
            (lambda: sf.after_count("3"), "after_count"),  # type: ignore[arg-type]
            (lambda: sf.after_processing_time("0s"), "longer than zero"),
            (lambda: sf.after_processing_time(5), "no unit"),  # type: ignore[arg-type]
            (lambda: sf.after_each(), "without a trigger"),
            (
                lambda: sf.after_any(sf.repeatedly(sf.after_count(1))),
                r"repeatedly\(after_count\(1\)\) may fire again",
            ),
            (lambda: sf.after_all(sf.after_watermark(late=sf.after_count(1))), "may fire again"),
            (lambda: sf.repeatedly(3), "3, which is no trigger"),  # type: ignore[arg-type]
            (lambda: sf.after_watermark(early="1s"), "no trigger"),  # type: ignore[arg-type]
            (lambda: sf.after_count(1).or_finally(None), "no trigger"),  # type: ignore[arg-type]
        ],
    )
    def test_triggers(self, make: Callable[[], object], said: str) -> None:
        with pytest.raises(sf.JobDefinitionError, match=said):
            make()

    def test_windows(self) -> None:
        job = sf.Job("refused")
        stream = job.read(sf.MemorySource([{"ts": 1, "k": "a"}]), event_time=sf.epoch("ts")).key_by("k")
        with pytest.raises(sf.JobDefinitionError, match="'1s' is no trigger"):
            stream.window(sf.tumbling("1s"), trigger="1s")  # type: ignore[arg-type]
        with pytest.raises(sf.JobDefinitionError, match="has no trigger of its own"):
            stream.window(sf.count_window(3), trigger=sf.never()).count()
        with pytest.raises(sf.JobDefinitionError, match=r"Odd\(\) cannot have timestamp='latest'"):
            stream.window(Odd(), timestamp="latest").count()


def test_a_trigger_that_does_what_windows_do_anyway_needs_no_rows() -> None:
    job = sf.Job("default")
    stream = job.read(sf.MemorySource([{"ts": 1, "k": "a"}]), event_time=sf.epoch("ts")).key_by("k")
    for trigger, lateness, alike in (
        (sf.after_watermark(), "0s", True),
        (sf.after_watermark(), "1s", False),
        (sf.after_watermark(late=sf.after_count(1)), "1s", True),
        (sf.repeatedly(sf.after_watermark()), "1s", True),
        (sf.after_watermark(late=sf.after_count(2)), "1s", False),
    ):
        windows = stream.window(sf.tumbling("1s"), trigger=trigger, allowed_lateness=lateness)
        assert (windows._trigger is None) == alike  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize(
    "window", [sf.tumbling("10s"), sf.sliding("10s", every="5s"), Odd(), Bursts()], ids=str
)
def test_the_last_panes_are_the_same_in_every_mode(window: Any, objects: bool) -> None:
    rows = [{"k": "ab"[n % 2], "v": n, "ts": n} for n in range(16)]
    job = sf.Job("triggered")
    source = sf.MemorySource(rows, schema=sf.OBJECTS) if objects else sf.MemorySource(rows)
    events = job.read(source, event_time=sf.epoch("ts", unit="s"), watermark=sf.bounded_disorder("2s"))
    early = sf.after_watermark(early=sf.after_count(3), late=sf.after_count(1))
    trigger = None if isinstance(window, sf.WindowAssigner) else early
    for windowed in (
        events.window(window, trigger=trigger),
        events.key_by("k").window(window, trigger=trigger),
    ):
        windowed.aggregate(n=sf.count(), total=sf.sum("v")).collect()
    alone, by_key = check_modes_agree(job, parallelism=(1, 2), batch_rows=(4,)).values()
    assert sum(row["total"] for row in alone) == sum(row["total"] for row in by_key)


def test_names_of_kinds_are_told_in_plans() -> None:
    job = sf.Job("plan")
    stream = job.read(sf.MemorySource([{"ts": 1, "k": "a"}]), event_time=sf.epoch("ts")).key_by("k")
    stream.window(sf.session(gap="5s"), trigger=sf.repeatedly(sf.after_count(3))).count().collect()
    assert "session(gap=5s), repeatedly(after_count(3)) by k: count=count()" in job.plan().text()
