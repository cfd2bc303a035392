"""Whether records travel as columns or as rows changes nothing: any steps before, any use behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow import col
from tests.properties.job_model import Way, share, ways

Row = dict[str, Any]

COLUMNS = {"k": sf.String, "v": sf.Int64, "at": sf.Int64}


class Same(sf.KeyedProcess):
    """Puts out what comes in."""

    output = COLUMNS

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(dict(event))


def even(stream: sf.Stream) -> sf.Stream:
    return stream.filter(col("v") % 2 == 0)


def odd(stream: sf.Stream) -> sf.Stream:
    return stream.filter(col("v") % 2 != 0)


def mapped(stream: sf.Stream) -> sf.Stream:
    return stream.map(lambda row: dict(row), schema=COLUMNS)


STEPS: dict[str, Callable[[sf.Stream], sf.Stream]] = {
    "columns": lambda s: s.with_columns(v=col("v")),
    "map": mapped,
    "filter": lambda s: s.filter(lambda row: row["v"] is not None),
    "flat_map": lambda s: s.flat_map(lambda row: [row], schema=COLUMNS),
    "process": lambda s: s.key_by(lambda row: row["k"]).process(Same),
    "columns and rows": lambda s: even(s).union(mapped(odd(s))),
    "rows and columns": lambda s: mapped(even(s)).union(odd(s)),
    "process and columns": lambda s: even(s).key_by("k").process(Same).union(odd(s)),
}


def key(row: Row) -> str:
    return cast("str", row["k"])


def keyed(stream: sf.Stream, by_function: bool) -> sf.KeyedStream:
    return stream.key_by(key) if by_function else stream.key_by("k")


def amount(by_function: bool) -> Any:
    return (lambda row: row["v"]) if by_function else "v"


def smaller(a: Row, b: Row) -> Row:
    return min(a, b, key=lambda row: row["at"])


@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9)), max_size=9),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=3),
    use=st.sampled_from(["columns", "totals", "windows", "reduce", "process", "function"]),
    key_function=st.booleans(),
    input_function=st.booleans(),
    way=ways(),
    parallelism=st.integers(1, 4),
)
@share(2)
def test_every_use_behind_any_steps_gives_what_plain_python_gives(
    rows: list[tuple[str, int]],
    steps: list[str],
    use: str,
    key_function: bool,
    input_function: bool,
    way: Way,
    parallelism: int,
) -> None:
    records: list[Row] = [{"k": k, "v": v, "at": at * 1_000} for at, (k, v) in enumerate(rows)]
    job = sf.Job("layouts")
    source = sf.MemorySource(records, batch_rows=way.rows, schema=COLUMNS)
    # Steps may bring records out of order.
    stream = job.read(source, event_time=sf.epoch("at"), watermark=sf.bounded_disorder("1h"))
    for step in steps:
        stream = STEPS[step](stream)
    by, value = keyed(stream, key_function), amount(input_function)
    name = "key" if key_function else "k"
    groups: dict[str, list[Row]] = defaultdict(list)
    for record in records:
        groups[record["k"]].append(record)

    match use:
        case "columns":
            result = stream.select("k", w=col("v") * 2)
            expected = [(r["k"], r["v"] * 2) for r in records]
        case "totals":
            totals = by.aggregate(n=sf.sum(value), m=sf.max("v"))
            result = totals.filter(col("change") != "update_before").map(dict)
            expected = [
                (k, sum(r["v"] for r in group), max(r["v"] for r in group)) for k, group in groups.items()
            ]
        case "windows":
            windows = by.window(sf.tumbling("1h")).aggregate(n=sf.sum(value), m=sf.max("v"))
            result = windows.select(name, "n", "m")
            expected = [
                (k, sum(r["v"] for r in group), max(r["v"] for r in group)) for k, group in groups.items()
            ]
        case "reduce":
            result = by.window(sf.tumbling("1h")).reduce(smaller).select(name, col("value").struct.field("v"))
            expected = [(k, group[0]["v"]) for k, group in groups.items()]
        case "process":
            result = by.process(Same)
            expected = [(r["k"], r["v"], r["at"]) for r in records]
        case _:
            result = stream.map(lambda row: {"k": row["k"], "w": row["v"] + 1})
            expected = [(r["k"], r["v"] + 1) for r in records]
    out = result.collect()
    job.run(**(way.settings | {"parallelism": parallelism}))
    found = out.rows()
    if use == "totals":  # the last word about each key stands
        found = list({row[name]: {k: v for k, v in row.items() if k != "change"} for row in found}.values())
    assert sorted(tuple(row.values()) for row in found) == sorted(expected)
