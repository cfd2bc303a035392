"""Rows of Python values under a schema: what would be changed by it is a bad record, whichever source gives it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col

Rows = list[dict[str, Any]]
Make = Callable[[Rows, Mapping[str, Any]], Any]


def generator(rows: Rows, schema: Mapping[str, Any]) -> Any:
    async def give() -> Any:
        for row in rows:
            yield row

    return sf.source(give, schema=schema, bounded=True)


def datagen(rows: Rows, schema: Mapping[str, Any]) -> Any:
    return sf.DataGen(lambda n: rows[n], rows=len(rows), schema=schema)


CHANGED: dict[str, tuple[Any, Any]] = {
    "1.5 as an integer": (sf.Int64, 1.5),
    "2 as a truth value": (sf.Boolean, 2),
    "no category": (pl.Enum(["a"]), "z"),
    "a count as a time": (sf.Datetime, 1_577_836_800_000),
    "within a struct": (sf.Struct({"n": sf.Int64}), {"n": 1.5}),
    "within a list": (sf.List(sf.Int64), [1, 2.5]),
    "True as a number": (sf.Int64, True),
    "too many digits": (pl.Decimal(4, 1), "1.25"),
    "too fine": (pl.Datetime("ms"), dt.datetime(2020, 1, 1, microsecond=1, tzinfo=dt.UTC)),
    "too large": (sf.Float32, 1e39),
    "a date of a time": (sf.Date, dt.datetime(2020, 1, 1, 5, tzinfo=dt.UTC)),
}


@pytest.mark.parametrize("make", [generator, datagen])
@pytest.mark.parametrize(("dtype", "value"), CHANGED.values(), ids=CHANGED)
def test_such_a_record_is_treated_by_policy(make: Make, dtype: Any, value: Any) -> None:
    rows: Rows = [{"n": 0, "v": None}, {"n": 1, "v": value}, {"n": 2, "v": None}]
    schema = {"n": sf.Int64, "v": dtype}
    job = sf.Job("skipping")
    out = job.read(make(rows, schema)).on_error("skip").collect()
    result = job.run()
    assert [row["n"] for row in out.rows()] == [0, 2]
    assert sum(operator.errors for operator in result.operators) == 1

    failing = sf.Job("failing")
    failing.read(make(rows, schema)).collect()
    with pytest.raises(sf.RecordError, match="'v' is"):
        failing.run()


@pytest.mark.parametrize("as_frame", [False, True])
def test_memory_refuses_them_when_the_job_is_built(as_frame: bool) -> None:
    for dtype, value in CHANGED.values():
        rows: Any = [{"v": None}, {"v": value}]
        if as_frame and isinstance(value, (list, dict)):
            rows = [{"v": None}, {"v": [1.5] if isinstance(value, list) else value}]
        with pytest.raises(sf.JobDefinitionError, match=r"row 1: .*'v' is"):
            sf.MemorySource(pl.DataFrame(rows) if as_frame else rows, schema={"v": dtype})


def test_what_fits_a_wider_type_is_taken() -> None:
    frame = pl.DataFrame({"n": [1, None], "x": [1, 2], "t": ["a", "b"]}, schema_overrides={"n": pl.Int8})
    schema = {"n": sf.Int64, "x": sf.Float64, "t": pl.Enum(["a", "b"])}
    source = sf.MemorySource(frame, schema=schema)
    job = sf.Job("wider")
    out = job.read(source).collect()
    job.run()
    assert out.frame().equals(frame.cast({"n": pl.Int64, "x": pl.Float64, "t": pl.Enum(["a", "b"])}))


def test_made_columns_are_as_strict() -> None:
    job = sf.Job("made")
    source = sf.DataGen({"n": col("index") / 2}, rows=4, schema={"n": sf.Int64})
    out = job.read(source).on_error("skip").collect()
    result = job.run()
    assert (out.rows(), sum(operator.errors for operator in result.operators)) == ([], 4)


@pytest.mark.parametrize("within", [lambda t: t.implode(), lambda t: pl.struct(t=t)])
@pytest.mark.parametrize("inner", [pl.Datetime("ns"), pl.Duration("ns"), pl.Time()])
def test_what_is_finer_within_is_not_cut(within: Any, inner: Any) -> None:
    fine = pl.select(v=within(pl.struct(t=pl.lit(1_001).cast(inner), n=pl.lit(1))))
    wanted = {"v": fine.schema["v"]}
    assert sf.MemorySource(fine, schema=wanted).output_type().schema == sf.Schema(wanted)
    coarse = inner if inner == pl.Time() else type(inner)("us")
    held = pl.Struct({"t": coarse, "n": pl.Int8})
    other = pl.List(held) if isinstance(wanted["v"], pl.List) else pl.Struct({"t": held})
    with pytest.raises(sf.JobDefinitionError, match=r"row 0: 'v' is .*000001001.*: it is finer"):
        sf.MemorySource(fine, schema={"v": other})


@pytest.mark.parametrize("kind", ["rows", "frame", "generator", "datagen", "map", "key"])
def test_an_empty_name_is_a_name(kind: str) -> None:
    rows: Rows = [{"": 1, "n": 1}, {"": 2, "n": 2}]
    schema = {"": sf.Int64, "n": sf.Int32}
    job = sf.Job("empty")
    if kind == "rows":
        stream = job.read(sf.MemorySource(rows))
    elif kind == "frame":
        stream = job.read(sf.MemorySource(pl.DataFrame(rows), schema=schema))
    elif kind in ("generator", "datagen"):
        stream = job.read((generator if kind == "generator" else datagen)(rows, schema))
    else:
        objects = job.read(sf.MemorySource(rows, schema=sf.OBJECTS))
        stream = objects.map(lambda row: row, schema=schema)
        if kind == "key":
            keyed = stream.key_by(lambda row: row["n"]).aggregate(n=sf.max("n"), value=sf.max(""))
            stream = keyed.map(lambda row: {"": row["value"], "n": row["key"]}, schema=schema)
    out = stream.collect()
    job.run()
    assert [(row[""], row["n"]) for row in out.rows()] == [(1, 1), (2, 2)]
