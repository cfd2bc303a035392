"""Keys of whole jobs: of every type, several at once, null among them; equal ones meet in one group wherever they are
read, and no group is split or lost by routing (SEMANTICS §5)."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from tests.properties.job_model import Way, share, ways

Kind = Literal["totals", "windows", "sessions", "late panes"]
KINDS = st.sampled_from(["totals", "windows", "sessions", "late panes"])

TYPES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "text": (pl.String(), st.text(max_size=3)),
    "bytes": (pl.Binary(), st.binary(max_size=3)),
    "flag": (pl.Boolean(), st.booleans()),
    "int64": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "int8": (pl.Int8(), st.integers(-3, 3)),
    "uint64": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "float": (pl.Float64(), st.sampled_from([0.0, -0.0, math.nan, math.inf, 0.5, 1.0, -1.5, 1e300])),
    "float32": (pl.Float32(), st.floats(width=32)),
    "date": (pl.Date(), st.dates()),
    "time": (pl.Time(), st.times()),
    "moment": (pl.Datetime("us", "UTC"), st.datetimes().map(lambda t: t.replace(tzinfo=dt.UTC))),
    "milliseconds": (pl.Datetime("ms"), st.dates().map(lambda d: dt.datetime.combine(d, dt.time(1, 2)))),
    "duration": (pl.Duration("us"), st.timedeltas(dt.timedelta(days=-9), dt.timedelta(days=9))),
    "decimal": (pl.Decimal(10, 2), st.decimals(-99, 99, places=2)),
    "enum": (pl.Enum(["x", "y", "z"]), st.sampled_from("xyz")),
    "list": (pl.List(pl.Int64()), st.lists(st.integers(0, 2), max_size=2)),
    "struct": (
        pl.Struct({"a": pl.Int64(), "b": pl.String()}),
        st.fixed_dictionaries({"a": st.integers(0, 1), "b": st.sampled_from("xy")}),
    ),
}


def counted(frame: pl.DataFrame, way: Way, keys: list[str], kind: Kind) -> pl.DataFrame:
    """Records per key by a whole job, read twice over so that equal keys come by two ways."""
    job = sf.Job("keys")
    streams = [
        job.read(sf.MemorySource(half, batch_rows=way.rows), event_time=sf.epoch("ts"))
        for half in (frame[::2], frame[1::2])
    ]
    keyed = streams[0].union(streams[1]).key_by(*keys, null_keys="group")
    # "late panes": each batch is behind the watermark, so that each is another pane of the one window.
    assigner = {"windows": sf.tumbling("1h"), "sessions": sf.session(gap="1h")}.get(kind, sf.tumbling("1us"))
    lateness, accumulation = ("1h", "retracting") if kind == "late panes" else ("0s", "accumulating")
    if kind == "totals":
        results: sf.Stream = keyed.aggregate(n=sf.count())
    else:
        windows = keyed.window(assigner, allowed_lateness=lateness, accumulation=accumulation)
        results = windows.aggregate(n=sf.count())
    out = results.collect()
    job.run(**way.settings)
    frame = out.frame()
    if "change" in frame.columns:
        # An update takes back the count before it.
        sign = pl.when(pl.col("change") == "update_before").then(-1).otherwise(1)
        frame = frame.group_by(keys).agg((sign * pl.col("n")).sum().alias("n"))
    return frame.select(*keys, "n")


def comparable(frame: pl.DataFrame) -> Counter[str]:
    """Rows as text: NaN is then equal to itself; the two zeros are one key."""
    return Counter(repr(row).replace("-0.0", "0.0") for row in frame.rows())


@pytest.mark.parametrize("kind", TYPES)
@share(6)
@given(data=st.data(), again=st.integers(1, 3), how=KINDS, way=ways())
def test_keys_of_every_type_are_grouped_as_polars_groups_them(
    kind: str, data: st.DataObject, again: int, how: Kind, way: Way
) -> None:
    dtype, values = TYPES[kind]
    drawn = data.draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=12))
    frame = pl.DataFrame({"key": pl.Series(drawn * again, dtype=dtype)}).with_columns(ts=0)
    ours = counted(frame, way, ["key"], how)
    direct = frame.group_by("key").agg(pl.len().cast(pl.Int64).alias("n"))
    assert ours.schema == direct.schema
    assert comparable(ours) == comparable(direct)


@share(2)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["", "a", "ab", "b", None]),
            st.sampled_from(["", "a", "ab", "bc", "c", None]),
            st.sampled_from([None, 0, 1]),
        ),
        min_size=1,
        max_size=15,
    ),
    how=KINDS,
    way=ways(),
)
def test_several_keys_are_grouped_together(rows: list[tuple[Any, ...]], how: Kind, way: Way) -> None:
    frame = pl.DataFrame(rows, schema={"one": pl.String, "two": pl.String, "three": pl.Int64}, orient="row")
    keys = ["one", "two", "three"]
    ours = counted(frame.with_columns(ts=0), way, keys, how)
    assert comparable(ours) == comparable(frame.group_by(keys).agg(pl.len().cast(pl.Int64).alias("n")))


@share(2)
@given(
    values=st.lists(
        st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([1.0, 2.5])),
        min_size=1,
        max_size=12,
    ),
    way=ways(),
)
def test_what_a_key_function_gives_now_and_then_meets_in_one_group(values: list[Any], way: Way) -> None:
    """A function may give 1 in one batch and 1.0 in another: that is one key, as it is in Python."""
    job = sf.Job("functions")
    rows = [{"n": value, "ts": 0} for value in values]
    stream = job.read(
        sf.MemorySource(rows, batch_rows=way.rows, schema=sf.OBJECTS), event_time=sf.epoch("ts")
    )
    keyed = stream.key_by(lambda row: row["n"], null_keys="group")
    out = keyed.window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    job.run(**way.settings)
    assert {row["key"]: row["n"] for row in out.rows()} == Counter(values)
    assert len(out) == len(set(values))


@share(2)
@given(values=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=10), way=ways())
def test_null_keys_are_refused_unless_the_job_says_otherwise(values: list[str | None], way: Way) -> None:
    frame = pl.DataFrame({"key": values}, schema={"key": pl.String}).with_columns(ts=0)
    job = sf.Job("nulls")
    stream = job.read(sf.MemorySource(frame, batch_rows=way.rows), event_time=sf.epoch("ts"))
    out = stream.key_by("key").window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    if None in values:
        with pytest.raises(sf.RecordError, match="the key 'key' is null"):
            job.run(**way.settings)
    else:
        job.run(**way.settings)
        assert {row["key"]: row["n"] for row in out.rows()} == Counter(values)
