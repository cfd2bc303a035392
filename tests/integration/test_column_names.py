"""Users' columns may have any name, those that operators give their own columns among them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import streamflow as sf
from streamflow.core.schema import EVENT_TIME, WATERMARK

NAMES = [
    "",
    "__n",
    "__slice",
    "__p0_0",
    "__first",
    "__latest",
    "__start",
    "__fired",
    "__session",
    "__row",
    "__most: <lambda>",
    "__record",
    "__seen",
    "total__before",
    "key",
    "time",
    "\x1a__n",
]
KINDS: dict[str, Callable[[sf.KeyedStream], Any]] = {
    "tumbling": lambda keyed: keyed.window(sf.tumbling("1h"), allowed_lateness="5us"),
    "sliding": lambda keyed: keyed.window(sf.sliding("1h", every="1h")),
    "session": lambda keyed: keyed.window(sf.session(gap="1h"), allowed_lateness="5us"),
    "global": lambda keyed: keyed.window(sf.global_window()),
    "running": lambda keyed: keyed,
}


def read(job: sf.Job, name: str) -> sf.Stream:
    rows = pl.DataFrame({name: ["a", "b", "a"], "v": [1, 2, 4], "ts": [0, 1, 2]})
    return job.read(sf.MemorySource(rows, batch_rows=1), event_time=sf.epoch("ts", unit="us"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_key_or_an_input_of_any_name(name: str, kind: str) -> None:
    job = sf.Job("named")
    stream = read(job, name)
    by_name = KINDS[kind](stream.key_by(name)).aggregate(total=sf.sum("v"), about=sf.approx_n_unique("v"))
    kept = by_name.collect()
    of_name = KINDS[kind](stream.key_by(lambda row: row["v"])).aggregate(
        least=sf.min(name), about=sf.approx_n_unique(name), most=sf.max(lambda row: row[name])
    )
    also = of_name.collect()
    reduced = KINDS[kind](stream.key_by("v")).reduce(lambda left, right: left).collect()
    job.run(mode="streaming", parallelism=2)
    last = {row[name]: row["total"] for row in kept.rows() if row.get("change") != "update_before"}
    assert last == {"a": 5, "b": 2}
    assert {row["key"]: (row["least"], row["about"], row["most"]) for row in also.rows()} == {
        1: ("a", 1, "a"),
        2: ("b", 1, "b"),
        4: ("a", 1, "a"),
    }
    assert {row["v"]: row["value"][name] for row in reduced.rows()} == {1: "a", 2: "b", 4: "a"}


@pytest.mark.parametrize("name", NAMES)
def test_a_late_record_and_an_event_keep_columns_of_any_name(name: str) -> None:
    class Echo(sf.KeyedProcess):
        def on_event(self, event: Any, ctx: Any) -> None:
            ctx.emit({**event, "by": ctx.key})

    job = sf.Job("kept")
    rows = pl.DataFrame({name: ["a", "b", "a"], "v": [1, 2, 4], "ts": [50, 90, 2]})
    stream = job.read(sf.MemorySource(rows, batch_rows=1), event_time=sf.epoch("ts", unit="us"))
    late = stream.key_by(name).window(sf.session(gap="5us")).aggregate(n=sf.count()).late.collect()
    echoed = stream.key_by(name).process(Echo).collect()
    job.run(mode="streaming", batch_rows=1)
    assert late.rows() == [{name: "a", "v": 4, "ts": 2}]
    assert sorted(row["by"] for row in echoed.rows()) == ["a", "a", "b"]
    assert all(row[name] == row["by"] for row in echoed.rows())


JOINS: dict[str, Callable[[sf.Stream, sf.Stream, pl.DataFrame, str], sf.Stream]] = {
    "interval": lambda left, right, frame, on: left.join(right, on, within=("-1h", "1h"), how="left"),
    "window": lambda left, right, frame, on: left.join(right, on, window=sf.tumbling("1h"), how="left"),
    "as of": lambda left, right, frame, on: left.join_asof(right, on),
    "table": lambda left, right, frame, on: left.join(right.to_table(on), how="left"),
    "frame": lambda left, right, frame, on: left.join(frame, on, how="left"),
    "broadcast": lambda left, right, frame, on: left.join(right, on, how="left", strategy="broadcast"),
    "streams": lambda left, right, frame, on: left.join(right, on, how="left"),
    "tables": lambda left, right, frame, on: left.to_table(on).join(right.to_table(on), how="left"),
}
IN_JOINS = [
    "",
    "__slice",
    "__end",
    "__found",
    "__hash",
    "__mark",
    "__gone",
    "\x1aweight",
    "\x1aleft time",
]


@pytest.mark.parametrize("place", range(len(IN_JOINS)))
def test_a_join_by_and_of_columns_of_any_name(place: int) -> None:
    on, value = IN_JOINS[place], IN_JOINS[place - 1]
    job = sf.Job("joined")
    frames = [
        pl.DataFrame({on: ["a", "b"], value: [1, 2], "ts": [5, 5]}),
        pl.DataFrame({on: ["a", "c"], value: [3, 4], "ts": [1, 1]}),
    ]
    left, right = (
        job.read(sf.MemorySource(frame), event_time=sf.epoch("ts", unit="us"), watermark="1h")
        for frame in frames
    )
    found = {kind: join(left, right, frames[1], on).collect() for kind, join in JOINS.items()}
    job.run(mode="streaming", parallelism=2)
    for kind, rows in found.items():
        stands = [row for row in rows.rows() if row.get("change") not in ("update_before", "delete")]
        pairs = sorted((row[on], row[value], row[f"{value}_right"] or 0) for row in stands)
        assert pairs[-1] == ("b", 2, 0), kind
        assert pairs[-2] == ("a", 1, 3), kind


OURS = sorted(
    {
        name
        for folder in ("operators", "streamflow", "state")
        for path in Path(folder).rglob("*.py")
        for name in re.findall(r'"(__[a-z_]+[a-z])"', path.read_text(encoding="utf-8"))
    }
    - {EVENT_TIME, WATERMARK}
    | {""}
)
"""All names that operators give to columns of their own, and none."""


class Echo(sf.KeyedProcess):
    """A process that emits each event."""

    def on_event(self, event: Any, ctx: Any) -> None:
        ctx.emit(event)


WHOLE: dict[str, Callable[[sf.Stream], sf.Stream]] = {
    "filter": lambda stream: stream.filter(lambda row: row["v"] >= 0),
    "flat_map": lambda stream: stream.flat_map(lambda row: [row]),
    "split": lambda stream: stream.split(small=sf.col("v") < 9)["small"],
    "split changes": lambda stream: stream.to_table("v").changes().split(small=sf.col("v") < 9)["small"],
    "filter changes": lambda stream: stream.to_table("v").changes().filter(sf.col("v") < 9),
    "sort": lambda stream: stream.sort("event_time"),
    "first": lambda stream: stream.deduplicate("v"),
    "first within": lambda stream: stream.deduplicate("v", within="1s"),
    "last": lambda stream: stream.deduplicate("v", within="1s", keep="last"),
    "top": lambda stream: stream.key_by("v").top_k(2, by="ts"),
    "top of changes": lambda stream: stream.to_table("v").changes().key_by("v").top_k(2, by="ts"),
    "process": lambda stream: stream.key_by("v").process(Echo),
    "match": lambda stream: stream.key_by("v").match(sf.pattern("one")).map(lambda row: row["one"]),
    "process in order": lambda stream: stream.key_by("v").process(Echo, order="event_time"),
}


def test_records_with_columns_of_all_names_that_are_ours_stay_as_they_are() -> None:
    job = sf.Job("ours")
    records = [{**dict.fromkeys(OURS, f"of {n}"), "v": n, "ts": n} for n in range(3)]
    stream = job.read(sf.MemorySource(pl.DataFrame(records)), event_time=sf.epoch("ts", unit="us"))
    outputs = {kind: way(stream).collect() for kind, way in WHOLE.items()}
    job.run(mode="streaming")
    assert len(OURS) > 40
    for kind, out in outputs.items():
        rows = [{name: row[name] for name in row if name != "change"} for row in out.rows()]
        assert sorted(rows, key=lambda row: row["v"]) == records, kind


def test_keys_of_all_names_that_are_ours() -> None:
    job = sf.Job("ours")
    records = [{**dict.fromkeys(OURS, f"of {n}"), "v": n, "ts": n} for n in range(3)]
    stream = job.read(sf.MemorySource(pl.DataFrame(records)), event_time=sf.epoch("ts", unit="us"))
    keyed = stream.key_by(*OURS)
    each = sf.repeatedly(sf.after_count(1))
    outputs = [
        keyed.window(sf.tumbling("1h"), trigger=each, accumulation="retracting").sum("v").collect(),
        keyed.window(sf.session(gap="1h"), trigger=each, accumulation="retracting").sum("v").collect(),
        keyed.window(sf.tumbling("1h"), accumulation="retracting", allowed_lateness="1h").sum("v").collect(),
        keyed.window(sf.count_window(1)).sum("v").collect(),
        keyed.aggregate(sum=sf.sum("v")).collect(),
        keyed.top_k(1, by="v").collect(),
        keyed.match(sf.pattern("one", sf.col("") != "")).collect(),
    ]
    job.run(mode="streaming")
    for out in outputs:
        assert sorted({tuple(row[name] for name in OURS) for row in out.rows()}) == [
            (f"of {n}",) * len(OURS) for n in range(3)
        ]


PATTERNS: dict[str, Callable[[sf.Stream, str], Any]] = {
    "read": lambda stream, name: sf.MemorySource([{name: 1}]),
    "key_by": lambda stream, name: stream.key_by(name).count(),
    "deduplicate": lambda stream, name: stream.deduplicate(name),
    "sort": lambda stream, name: stream.sort(name),
    "top_k": lambda stream, name: stream.key_by("v").top_k(1, by=name),
    "sum": lambda stream, name: stream.key_by("v").aggregate(n=sf.sum(name)),
    "collect": lambda stream, name: stream.key_by("v").aggregate(n=sf.collect_list(name)),
    "as": lambda stream, name: stream.key_by("v").aggregate(**{name: sf.count()}),
    "drop": lambda stream, name: stream.drop(name),
    "explode": lambda stream, name: stream.explode(name),
    "rename": lambda stream, name: stream.rename({name: "w"}),
    "rename to": lambda stream, name: stream.rename({"v": name}),
    "with_columns": lambda stream, name: stream.with_columns(**{name: sf.lit(1)}),
    "join": lambda stream, name: stream.join(stream, name, within=("0s", "1s")),
    "to_table": lambda stream, name: stream.to_table(name).changes(),
    "event_time": lambda stream, name: sf.Job("other").read(sf.MemorySource([{"v": 1}]), event_time=name),
}


@pytest.mark.parametrize("name", ["*", "^v.*$", "^none$"])
def test_a_pattern_of_names_is_no_column(name: str) -> None:
    for kind, use in PATTERNS.items():
        stream = read(sf.Job("patterns"), "k")
        with pytest.raises(sf.JobDefinitionError) as raised:
            use(stream, name)
        assert name in str(raised.value), kind


def test_late_rows_of_a_join_keep_their_columns_and_have_one_for_their_side() -> None:
    job = sf.Job("late")
    rows = pl.DataFrame({"__end": ["a", "a"], "ts": [10_000_000, 0], "late_side": ["x", "y"]})
    left = job.read(sf.MemorySource(rows, batch_rows=1), event_time=sf.epoch("ts", unit="us"))
    named = left.join(left, "__end", within=("0s", "1s"))
    assert isinstance(named, sf.JoinedStream)
    with pytest.raises(sf.JobDefinitionError, match="'late_side', which its late rows have"):
        named.late.collect()
    other = left.drop("late_side")
    late = other.join(other, "__end", within=("0s", "1s")).late.collect()
    job.run(mode="streaming", batch_rows=1)
    assert [(row["late_side"], row["__end"]) for row in late.rows()] == [("left", "a"), ("right", "a")]


def test_a_null_key_is_called_by_its_name() -> None:
    job = sf.Job("null")
    source = sf.MemorySource(pl.DataFrame({"__n": [None, "a"]}))
    job.read(source).key_by("__n").aggregate(n=sf.count()).collect()
    with pytest.raises(sf.RecordError, match="the key '__n' is null"):
        job.run()


@pytest.mark.parametrize("name", ["__event_time", "__watermark"])
@pytest.mark.parametrize(
    "made",
    [
        lambda s, name: s.with_columns(**{name: sf.lit(1)}),
        lambda s, name: s.with_columns(sf.col("v").alias(name)),
        lambda s, name: s.select("v", sf.col("v").alias(name)),
        lambda s, name: s.rename({"v": name}),
    ],
)
@pytest.mark.parametrize("timed", [True, False])
def test_the_names_of_event_time_and_watermark_are_taken(name: str, made: Any, timed: bool) -> None:
    job = sf.Job("taken")
    rows = sf.MemorySource([{"v": 1, "ts": 1}])
    stream = job.read(rows, event_time=sf.epoch("ts", unit="us")) if timed else job.read(rows)
    with pytest.raises(sf.JobDefinitionError, match=f"a column cannot be named '{name}'"):
        made(stream, name).collect()


@pytest.mark.parametrize("name", ["__event_time", "__watermark"])
def test_rows_have_no_column_of_those_names(name: str) -> None:
    with pytest.raises(sf.JobDefinitionError, match=f"a column cannot be named '{name}'"):
        sf.MemorySource([{name: 5, "v": 1}])


def test_event_time_of_another_type_is_refused() -> None:
    source = sf.MemorySource(pl.DataFrame({"__event_time": [5], "v": [1]}))
    with pytest.raises(sf.JobDefinitionError, match="is event time, and this one is Int64"):
        sf.Job("other").read(source)


@pytest.mark.parametrize("name", ["*", "^v.*$", "^none$"])
@pytest.mark.parametrize(("suffix", "text"), [("csv", "{},v\n1,2\n"), ("ndjson", '{{"{}": 1, "v": 2}}\n')])
def test_a_pattern_of_names_in_a_file_is_read_by_no_name(
    tmp_path: Path, suffix: str, text: str, name: str
) -> None:
    path = tmp_path / f"patterns.{suffix}"
    path.write_text(text.format(name))
    with pytest.raises(sf.JobDefinitionError, match=re.escape(repr(name))):
        sf.Job("all").read(sf.FileSource(path))
    assert collected(sf.FileSource(path, schema={"v": sf.Int64})).rows() == [(2,)]


@pytest.mark.parametrize("name", ["*", "^v.*$", "^none$"])
def test_fields_of_structs_have_any_names(tmp_path: Path, name: str) -> None:
    at = datetime(2024, 3, 31, tzinfo=UTC)
    inner = pl.Struct({"v": pl.Int64, name: pl.Datetime("us", "UTC")})
    rows: list[dict[str, Any]] = [{"s": {"v": 1, name: at}}, {"s": {"v": 2, name: None}}]
    frame = pl.DataFrame(rows, schema={"s": inner})
    job = sf.Job("write")
    job.read(sf.MemorySource(frame)).write(sf.FileSink(tmp_path / "out.ndjson"))
    job.run()
    read_back = sf.FileSource(tmp_path / "out.ndjson", schema={"s": inner})
    assert_frame_equal(collected(read_back), frame)
    inferred = collected(sf.FileSource(tmp_path / "out.ndjson"))["s"].to_list()
    assert inferred == [{"v": 1, name: "2024-03-31T00:00:00Z"}, {"v": 2, name: None}]
    job = sf.Job("keys")
    objects = job.read(read_back).map(lambda row: row).collect()
    totals = job.read(read_back).key_by("s").aggregate(n=sf.count()).collect()
    job.run(parallelism=2)
    assert objects.rows() == rows
    assert sorted(totals.frame()["s"].to_list(), key=repr) == [row["s"] for row in rows]


def collected(source: sf.FileSource) -> pl.DataFrame:
    job = sf.Job("read")
    out = job.read(source).collect()
    job.run()
    return out.frame()
