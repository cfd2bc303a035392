"""Selectors and patterns in `select` and `with_columns` stand for the user's columns, never for the event time."""

from typing import Any

import polars as pl
import polars.selectors as cs
import pytest

from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.operators.stateless.columns import Select, WithColumns
from streamflow.testing import OperatorHarness

AT = 1_577_836_800_000_000
EVENTS = StreamType(Schema({"k": pl.String, "v": pl.Int64, "seen": pl.Datetime}), timed=True)
ROWS = [{"k": "a", "v": 1, "seen": "2020-01-01T00:00:00Z"}, {"k": "b", "v": 2, "seen": None}]


@pytest.mark.parametrize(
    ("spec", "columns"),
    [
        (Select(expressions=(pl.all(),)), ["k", "v", "seen"]),
        (Select(expressions=(pl.all().exclude("seen"),)), ["k", "v"]),
        (Select(expressions=(pl.col("^.*e.*$"), pl.col("k"))), ["seen", "k"]),
        (Select(expressions=(cs.temporal(), pl.lit(1).alias("one"))), ["seen", "one"]),
        (WithColumns(expressions=(cs.temporal().dt.offset_by("1h"),)), ["k", "v", "seen"]),
        (WithColumns(expressions=(pl.all().cast(pl.String),)), ["k", "v", "seen"]),
    ],
    ids=["all", "all-but-time", "pattern", "by-type", "time-moved", "cast"],
)
def test_event_time_is_not_theirs(spec: OperatorSpec, columns: list[str]) -> None:
    type_ = spec.output_type([EVENTS])
    assert list(type_.schema) == columns  # type: ignore[arg-type]
    assert type_.timed
    harness = OperatorHarness(spec, EVENTS).push(ROWS, times=[AT, AT + 1])
    rows: list[Any] = harness.output()
    assert [list(row) for row in rows] == [columns] * 2
    assert harness.event_times() == [AT, AT + 1]
