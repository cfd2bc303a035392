"""Records of which one of each key is kept: groups and their bounds, order, lateness, snapshots, what it costs."""

from __future__ import annotations

import random
from typing import Any, Literal

import polars as pl
import pytest

from streamflow.core.keys import key_hashes
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError
from streamflow.operators.contract.operator import ERRORS, LATE
from streamflow.operators.sorting import known_hashes
from streamflow.operators.sorting.deduplicate import DeduplicateSpec
from streamflow.testing.harness import OperatorHarness, check_batchings
from streamflow.time.timestamps import MAX_TIME
from tests.unit.operators.rows_gone_over import RowsGoneOver

TIMED = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
UNTIMED = StreamType(TIMED.schema, timed=False)
COLUMNS = ("k", "v")
Records = list[tuple[str, int, int]]
"""(key, event time, value)."""


def spec(within: int | None = None, keep: Literal["first", "last"] = "first", **more: Any) -> DeduplicateSpec:
    return DeduplicateSpec(("k",), COLUMNS, within, keep, **more)


def pushed(harness: OperatorHarness, *records: tuple[str, int, int]) -> OperatorHarness:
    rows = [{"k": key, "v": value} for key, _, value in records]
    return harness.push(rows, times=[time for _, time, _ in records])


def values(harness: OperatorHarness) -> list[int]:
    return [row["v"] for row in harness.output()]


def counted(harness: OperatorHarness) -> int:
    return int(harness.metrics.value_of("streamflow_records_duplicate_total"))


def test_the_first_by_event_time_is_kept_whichever_came_first() -> None:
    harness = pushed(OperatorHarness(spec(), TIMED), ("a", 5, 1), ("a", 3, 2), ("b", 4, 3))
    assert harness.output() == []
    harness.watermark(5)
    assert (values(harness), harness.event_times(), counted(harness)) == ([2, 3], [3, 4], 1)
    pushed(harness, ("a", 9, 4)).finish()
    assert (values(harness), counted(harness)) == ([2, 3], 2)


def test_a_key_is_forgotten_when_within_has_passed_since_its_first_record() -> None:
    """Not since the last: 10 is ten after 0, whatever came between."""
    harness = OperatorHarness(spec(within=10), TIMED)
    pushed(harness, ("a", 0, 1), ("a", 9, 2), ("a", 10, 3), ("a", 19, 4), ("a", 20, 5)).finish()
    assert (values(harness), counted(harness)) == ([1, 3, 5], 2)


def test_of_one_moment_the_first_in_the_order_of_its_values_is_kept() -> None:
    for order in ([7, 3, 5], [3, 5, 7], [5, 7, 3]):
        harness = pushed(OperatorHarness(spec(), TIMED), *(("a", 4, value) for value in order)).finish()
        assert values(harness) == [3]


def test_a_record_behind_the_watermark_is_late_whether_it_is_a_duplicate_or_not() -> None:
    harness = pushed(OperatorHarness(spec(), TIMED), ("a", 5, 1)).watermark(5)
    pushed(harness, ("a", 5, 2), ("b", 4, 3), ("b", 6, 4)).finish()
    assert (values(harness), harness.output(LATE)) == ([1, 4], [{"k": "a", "v": 2}, {"k": "b", "v": 3}])
    assert counted(harness) == 0
    unread = pushed(OperatorHarness(spec(), TIMED, reads=()).watermark(5), ("a", 5, 2)).finish()
    assert unread.metrics.late_dropped.value == 1


def test_the_last_of_a_group_comes_when_the_watermark_has_passed_its_end() -> None:
    harness = OperatorHarness(spec(10, "last"), TIMED)
    pushed(harness, ("a", 0, 1), ("a", 4, 2), ("b", 7, 3)).watermark(8)
    assert values(harness) == []
    pushed(harness, ("a", 9, 4), ("a", 10, 5)).watermark(9)
    assert (values(harness), harness.event_times(), counted(harness)) == ([4], [9], 2)
    harness.watermark(18)
    assert values(harness) == [4, 3]
    harness.watermark(19)
    assert values(harness) == [4, 3, 5]


def test_the_watermark_is_held_back_by_the_length_of_a_group() -> None:
    """The last record of a group may be as much behind the watermark that gives it."""
    harness = pushed(OperatorHarness(spec(10, "last"), TIMED), ("a", 0, 1))
    harness.watermark(8).watermark(9)
    assert (harness.event_times(), harness.watermarks) == ([0], [-2, -1])
    harness.finish()
    assert harness.watermarks[-1] == MAX_TIME


def test_without_event_time_the_first_to_come_is_kept_at_once() -> None:
    harness = OperatorHarness(spec(), UNTIMED).push([{"k": "a", "v": 1}, {"k": "a", "v": 2}])
    harness.push([{"k": "b", "v": 3}, {"k": "a", "v": 4}])
    assert (values(harness), counted(harness)) == ([1, 3], 2)


def test_a_null_key_is_refused_or_a_key_like_any_other() -> None:
    rows = [{"k": None, "v": 1}, {"k": None, "v": 2}]
    with pytest.raises(RecordError, match="the key 'k' is null"):
        OperatorHarness(spec(), UNTIMED).push(rows)
    assert values(OperatorHarness(spec(null_keys="group"), UNTIMED).push(rows)) == [1]
    letters = OperatorHarness(spec(on_error="dead_letter"), UNTIMED).push(rows)
    assert (values(letters), len(letters.output(ERRORS))) == ([], 2)


def test_records_keep_their_own_columns_only() -> None:
    made = StreamType(Schema({"k": pl.String, "v": pl.Int64, "made": pl.Int64}), timed=True)
    by_made = DeduplicateSpec(("made",), COLUMNS)
    harness = OperatorHarness(by_made, made).push([{"k": "a", "v": 1, "made": 2}], times=[3]).finish()
    assert harness.output() == [{"k": "a", "v": 1}]


def some_records(seed: int, count: int = 200) -> Records:
    """Records in disorder, of which many share a key, a group or a moment."""
    chance = random.Random(seed)
    return [
        (chance.choice("abcde"), n // 2 + chance.randint(0, 10), chance.randint(0, 3)) for n in range(count)
    ]


def expected(records: Records, within: int | None, keep: str) -> list[tuple[str, int, int]]:
    """The records kept, by the definition."""
    kept: list[tuple[str, int, int]] = []
    by_key: dict[str, Records] = {}
    for record in sorted(records):
        by_key.setdefault(record[0], []).append(record)
    for of_key in by_key.values():
        group: Records = []
        for record in of_key:
            if group and (within is None or record[1] < group[0][1] + within):
                group.append(record)
                continue
            kept += [group[0] if keep == "first" else group[-1]] if group else []
            group = [record]
        kept += [group[0] if keep == "first" else group[-1]]
    return sorted(kept)


CASES: list[tuple[int | None, Literal["first", "last"]]] = [
    (None, "first"), (1, "first"), (7, "first"), (40, "first"), (1, "last"), (7, "last"), (40, "last"),
]  # fmt: skip


@pytest.mark.parametrize(("within", "keep"), CASES)
@pytest.mark.parametrize("budget", [64 << 20, 1])
def test_restored_at_another_parallelism_it_goes_on_as_if_nothing_had_happened(
    within: int | None, keep: Literal["first", "last"], budget: int
) -> None:
    records = some_records(len(keep) + (within or 0))
    harness = OperatorHarness(spec(within, keep), TIMED, memory_budget=budget)
    for number, start in enumerate(range(0, len(records), 10)):
        pushed(harness, *records[start : start + 10]).watermark((start + 10) // 2 - 1)
        harness.restore(harness.snapshot(), parallelism=number % 3 + 1)
    harness.finish()
    found = [
        (row["k"], time, row["v"]) for row, time in zip(harness.output(), harness.event_times(), strict=True)
    ]
    assert sorted(found) == expected(records, within, keep)
    assert counted(harness) == len(records) - len(found)
    assert harness.output(LATE) == []


@pytest.mark.parametrize("within", [None, 900, 100_000])
@pytest.mark.parametrize(("budget", "hashes"), [(64 << 20, None), (64 << 20, 1_000), (1, None)])
def test_many_records_at_once_are_told_apart_by_their_hashes(
    within: int | None, budget: int, hashes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_hashes, "_FOLDED", 500)
    if hashes is not None:
        # Three keys have the same first hash.
        monkeypatch.setattr(known_hashes, "key_hashes", lambda *keys: key_hashes(*keys) % hashes)
    chance = random.Random(budget)
    records = [(f"k{chance.randrange(3_000)}", n // 2 + chance.randint(0, 50), n) for n in range(8_000)]
    harness = OperatorHarness(spec(within), TIMED, memory_budget=budget)
    for number, start in enumerate(range(0, len(records), 2_000)):
        pushed(harness, *records[start : start + 2_000]).watermark((start + 2_000) // 2 - 1)
        if number % 5 == 4:
            harness.restore(harness.snapshot(), parallelism=number % 2 + 1)
    harness.finish()
    found = zip(harness.output(), harness.event_times(), strict=True)
    assert sorted((row["k"], time, row["v"]) for row, time in found) == expected(records, within, "first")


@pytest.mark.parametrize(("within", "keep"), CASES)
def test_batches_make_no_difference(within: int | None, keep: Literal["first", "last"]) -> None:
    records = some_records(3, 60)

    def script(harness: OperatorHarness) -> None:
        for start in range(0, len(records), 10):
            pushed(harness, *records[start : start + 10]).watermark((start + 10) // 2 - 1)
        harness.finish()

    check_batchings(spec(within, keep), TIMED, script=script)


@pytest.mark.parametrize("keep", ["first", "last"])
def test_state_is_bounded_by_within_and_empty_at_the_end(keep: Literal["first", "last"]) -> None:
    harness = OperatorHarness(spec(100, keep), TIMED)
    held: list[int] = []
    for start in range(0, 2_000, 20):
        pushed(harness, *((f"k{n}", n, n) for n in range(start, start + 20))).watermark(start + 19)
        held.append(rows_held(harness))
    assert max(held) <= (200 if keep == "first" else 1_300)
    harness.finish()
    assert rows_held(harness) == 0


def rows_held(harness: OperatorHarness) -> int:
    (part,) = harness.snapshot()
    return sum(frame.height for table in part.tables.values() for _, frame in table)


@pytest.mark.parametrize(("within", "keep"), [(None, "first"), (10**12, "first"), (10**12, "last")])
def test_a_batch_costs_what_its_keys_cost_whatever_is_known(
    within: int | None, keep: Literal["first", "last"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that are gone over for a batch of ten, beside ten thousand keys and beside sixty thousand."""
    gone_over = RowsGoneOver(monkeypatch)
    harness = OperatorHarness(spec(within, keep), TIMED)
    cost: list[int] = []
    for known in (10_000, 60_000):
        done = 10_000 if known > 10_000 else 0
        for start in range(done, known, 5_000):
            frame = pl.DataFrame({"k": [f"k{n}" for n in range(start, start + 5_000)], "v": 1})
            harness.push(frame, times=range(start, start + 5_000)).watermark(start + 4_999)
        for again in range(3):  # the first look-ups sort
            gone_over.count = 0
            first = 70_000 + known + again
            pushed(harness, *((f"k{n * 97}", first, n) for n in range(10))).watermark(first)
        cost.append(gone_over.count)
    assert cost[1] <= cost[0] + 2_000
