"""A stream beside a table without a history: what is read first, what waits, and copies in every subtask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import EVERY_CHANGE, StreamType
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.operators.joins.as_of import AsOfJoin
from streamflow.operators.joins.interval import IntervalJoin
from streamflow.operators.joins.latest_standing import LatestStanding
from streamflow.operators.joins.rows_of_changes import RowsOfChanges
from streamflow.operators.joins.sides import JoinSpec
from streamflow.operators.joins.table import TableJoin
from streamflow.operators.joins.table_rows import DELETED
from streamflow.operators.joins.upserts import Upserts
from streamflow.state.frames.store import FrameStore
from streamflow.testing import OperatorHarness
from streamflow.time.timestamps import MAX_TIME

LEFT = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
RIGHT = StreamType(Schema({"k": pl.String, "w": pl.Int64}), timed=False)
ON: dict[str, Any] = {"left_keys": ("k",), "right_keys": ("k",)}


def test_rows_wait_for_a_table_that_ends() -> None:
    harness = OperatorHarness(TableJoin(bounded=True, how="left", **ON), LEFT, RIGHT)
    harness.push([{"k": "a", "v": 1}], times=[5]).watermark(7, port=0)
    assert (harness.output(), harness.watermarks) == ([], [])
    harness.push([{"k": "a", "w": 1}, {"k": "a", "w": 2}], port=1).watermark(MAX_TIME, port=1).tick()
    assert harness.output() == [{"k": "a", "v": 1, "w": 2}]
    assert (harness.event_times(), harness.watermarks) == ([5], [7])
    harness.push([{"k": "b", "v": 2}], times=[8])
    assert harness.output()[-1] == {"k": "b", "v": 2, "w": None}


def test_rows_of_a_table_without_an_end_count_from_when_they_come() -> None:
    harness = OperatorHarness(TableJoin(bounded=False, how="left", **ON), LEFT, RIGHT)
    for number in range(3):
        harness.push([{"k": "a", "v": number}], times=[number]).push([{"k": "a", "w": number}], port=1)
    assert [row["w"] for row in harness.output()] == [None, 0, 1]


@pytest.mark.parametrize("broadcast", [False, True])
@given(
    keys=st.lists(st.sampled_from("abcdef"), max_size=12),
    table=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), max_size=8),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
)
def test_what_waits_and_the_table_go_on_at_another_parallelism(
    broadcast: bool, keys: list[str], table: list[tuple[str, int]], before: int, after: int
) -> None:
    spec = TableJoin(bounded=True, broadcast=broadcast, every_row=broadcast, how="left", **ON)
    harness = OperatorHarness(spec, LEFT, RIGHT, parallelism=before)
    rows = [{"k": key, "v": number} for number, key in enumerate(keys)]
    harness.push(rows, times=[0] * len(rows))
    harness.push([{"k": key, "w": value} for key, value in table], port=1)
    harness.restore(harness.snapshot(), parallelism=after).finish()
    wanted = list[tuple[int, int | None]]()
    for number, key in enumerate(keys):
        values: list[int | None] = [value for other, value in table if other == key]
        wanted += [(number, value) for value in (values if broadcast else values[-1:]) or [None]]
    found = [(row["v"], row["w"]) for row in harness.output()]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize(
    "spec",
    [
        TableJoin(bounded=False, **ON),
        TableJoin(bounded=True, broadcast=True, **ON),
        AsOfJoin(**ON),
        Upserts(keys=("k",)),
    ],
    ids=["table", "broadcast", "as of", "changes"],
)
def test_rows_of_a_table_without_a_key_are_counted_once(spec: OperatorSpec, parallelism: int) -> None:
    timed = isinstance(spec, AsOfJoin)
    inputs = (
        [StreamType(RIGHT.schema, timed=timed)]
        if isinstance(spec, Upserts)
        else [LEFT, StreamType(RIGHT.schema, timed=timed)]
    )
    harness = OperatorHarness(spec, *inputs, parallelism=parallelism)
    rows = [{"k": key, "w": 1} for key in ("a", None, "b", None, None)]
    harness.push(rows, times=[0] * 5 if timed else None, port=len(inputs) - 1)
    assert harness.metrics.counter("streamflow_table_rows_without_key_total", "").value == 3


@pytest.mark.parametrize(
    "spec",
    [IntervalJoin(lower=-100, upper=100, **ON), TableJoin(bounded=False, **ON), AsOfJoin(**ON)],
    ids=lambda spec: spec.kind,
)
def test_a_batch_costs_what_its_keys_cost(spec: JoinSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred thousand stored rows only those near the keys of a batch are handed to the join."""
    handed: list[int] = []

    def counted(looking_up: Callable[..., list[pl.DataFrame]]) -> Callable[..., list[pl.DataFrame]]:
        def counting(*given: Any) -> list[pl.DataFrame]:
            frames = looking_up(*given)
            handed.append(sum(frame.height for frame in frames))
            return frames

        return counting

    right = StreamType(RIGHT.schema, timed=spec.kind != "table_join")
    harness = OperatorHarness(spec, LEFT, right)
    stored = pl.select(k=pl.format("k{}", pl.int_range(100_000)), w=pl.int_range(100_000))
    harness.push(stored.to_dicts(), times=None if not right.timed else [0] * 100_000, port=1).watermark(1)
    for name in ("_near", "candidates"):
        monkeypatch.setattr(FrameStore, name, counted(getattr(FrameStore, name)))
    for number in range(1, 81):
        rows = [{"k": f"k{number * 10 + at}", "v": at} for at in range(10)]
        harness.push(rows, times=[2 + number] * 10).watermark(2 + number)
    assert len(harness.output()) == 800
    # Each part of the store is gone over once, and sorted the second time.
    assert max(handed[-10:]) <= 100


def test_an_update_of_a_table_with_a_history_is_at_the_time_of_its_new_row() -> None:
    """Its old row may carry its own time, at which the key was not gone."""
    kinds = pl.Series(["insert", "update_before", "update_after", "delete"]).cast(CHANGE_TYPE)
    times = pl.Series([5, 5, 20, 30]).cast(EVENT_TIME_TYPE)
    changes = pl.LazyFrame({CHANGE: kinds, "k": ["a"] * 4, EVENT_TIME: times})
    rows = RowsOfChanges(timed=True).apply(changes).collect()
    assert rows[DELETED].to_list() == [False, True, False, True]
    assert rows[EVENT_TIME].to_physical().to_list() == [5, 20, 20, 30]


@given(
    script=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.booleans()), max_size=12),
    batch=st.integers(1, 4),
    parallelism=st.sampled_from([None, 1, 3]),
)
@settings(max_examples=20)
def test_the_row_of_a_key_is_the_last_that_came_of_those_that_stand(
    script: list[tuple[str, int, bool]], batch: int, parallelism: int | None
) -> None:
    """A row may be withdrawn after another of its key has come; `parallelism`: restored at that after each batch."""
    columns = Schema({CHANGE: CHANGE_TYPE, "k": pl.String, "v": pl.Int64})
    changes = StreamType(columns, False, EVERY_CHANGE)
    harness = OperatorHarness(LatestStanding(keys=("k",)), changes)
    standing: list[tuple[str, int]] = []
    rows: list[dict[str, Any]] = []
    for key, value, goes in script:
        goes = goes and (key, value) in standing
        rows.append({CHANGE: "delete" if goes else "insert", "k": key, "v": value})
        if goes:
            standing.remove((key, value))
        else:
            standing.append((key, value))
    for start in range(0, len(rows), batch):
        harness.push(rows[start : start + batch])
        if parallelism is not None:
            harness.restore(harness.snapshot(), parallelism=parallelism)
    now = {row["k"]: None if row[DELETED] else row["v"] for row in harness.output()}
    assert {key: value for key, value in now.items() if value is not None} == dict(standing)
