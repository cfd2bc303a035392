"""A value in a JSON file comes out unchanged in a column of any type, or is that record's error."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import OBJECTS
from streamflow.operators.connectors.files.source import FileSource
from tests.unit.connectors.driving import Reading, read

MANY = 3_000
"""Beyond what is read without Polars' own reader."""


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def values(path: Path, text: str, dtype: Any) -> Reading:
    """The column `a` of a file, skipping what is bad."""
    return read(FileSource(put(path / "x.ndjson", text), schema={"a": dtype}), on_error="skip")


@pytest.mark.parametrize("many", [1, MANY])
@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (pl.String, "1.10", "1.10"),
        (pl.String, "12345678901234567890.123456789", "12345678901234567890.123456789"),
        (pl.String, "1e5", "1e5"),
        (pl.String, "-0", "-0"),
        (pl.String, '"-0"', "-0"),
        (pl.String, "true", "true"),
        (pl.String, '{"x": 1.10, "x":2}', '{"x": 1.10, "x":2}'),
        (pl.String, "[1.10, 2]", "[1.10, 2]"),
        (pl.String, '"\\ud83d\\ude00"', "😀"),
        (pl.List(pl.String), '[1.10,"1.10",null]', ["1.10", "1.10", None]),
        (pl.Struct({"s": pl.String, "n": pl.Int64}), '{"s":1.10,"n":2}', {"s": "1.10", "n": 2}),
        (
            pl.Decimal(38, 20),
            "123456789012345678.12345678901234567890",
            "123456789012345678.12345678901234567890",
        ),
        (pl.Decimal(10, 2), '"1.20"', "1.20"),
        (pl.Decimal(10, 2), "1.2e2", "120.00"),
        (pl.Decimal(10, 2), "1.2000", "1.20"),
        (pl.List(pl.Decimal(38, 18)), "[0.123456789012345678]", ["0.123456789012345678"]),
        (pl.Array(pl.Int64, 2), "[1,2]", [1, 2]),
        (pl.Array(pl.Int8, (2, 1)), "[[1],[null]]", [[1], [None]]),
        (pl.List(pl.Float32), "[1.5]", [1.5]),
        (pl.Int128, "170141183460469231731687303715884105727", 2**127 - 1),
        (pl.Enum(["x", "y"]), '"y"', "y"),
        (pl.Datetime("us", "UTC"), '"2024-01-01T00:00Z"', "2024-01-01 00:00:00+00:00"),
        (pl.List(pl.Time), '["05:17:00"]', ["05:17:00"]),
    ],
)
def test_every_digit_is_kept(tmp_path: Path, dtype: Any, text: str, value: Any, many: int) -> None:
    found = values(tmp_path, f'{{"a":{text}}}\n' * many, dtype)
    assert found.bad == []
    assert len(found.rows) == many
    assert {json.dumps(row["a"], default=str) for row in found.rows} == {json.dumps(value, default=str)}


@pytest.mark.parametrize("many", [1, MANY])
@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (pl.Array(pl.Int64, 2), "[1]"),
        (pl.Array(pl.Int64, 2), "[1,2,3]"),
        (pl.Array(pl.Int64, (2, 2)), "[[1,2],[3]]"),
        (pl.List(pl.Array(pl.Int64, 1)), "[[1],[]]"),
        (pl.Struct({"x": pl.Array(pl.String, 1)}), '{"x":[]}'),
        (pl.Float32, "1e39"),
        (pl.List(pl.Float32), "[1,-1e39]"),
        (pl.Decimal(10, 2), "1.239"),
        (pl.Decimal(4, 2), "100"),
        (pl.Decimal(4, 2), "1e999999999"),
        (pl.Int8, "128"),
        (pl.List(pl.Int8), "[128]"),
        (pl.Struct({"t": pl.Datetime("us")}), '{"t":"soon"}'),
        (pl.List(pl.Enum(["x"])), '["y"]'),
        (pl.Enum(["x"]), '"y"'),
        (pl.String, '"\\ud800"'),
        (pl.String, '"\\udc00\\ud800"'),
        (pl.List(pl.String), '["\\ud83d\\u0041"]'),
        (pl.Int64, "1e400"),
    ],
)
def test_what_does_not_fit_is_that_record_s_error(tmp_path: Path, dtype: Any, text: str, many: int) -> None:
    found = values(tmp_path, '{"a":null}\n' * many + f'{{"a":{text}}}\n' + '{"a":null}\n' * 2, dtype)
    assert len(found.bad) == 1
    assert f"line {many + 1}" in found.bad[0]
    assert [row["a"] for row in found.rows] == [None] * (many + 2)


@pytest.mark.parametrize("many", [1, MANY])
def test_of_two_values_of_one_name_the_last_counts(tmp_path: Path, many: int) -> None:
    line = '{"a":1,"b":{"c":1,"c":2},"a":2,"\\u0061":3}\n'
    path = put(tmp_path / "x.ndjson", line * many)
    whole = {"a": 3, "b": {"c": 2}}
    columns = FileSource(path, schema={"a": pl.Int64, "b": pl.Struct({"c": pl.Int64})})
    assert read(columns).rows == [whole] * many
    assert read(FileSource(path)).rows == [whole] * many
    assert read(FileSource(path, schema=OBJECTS)).rows == [whole] * many


def test_one_record_of_two_values_among_few(tmp_path: Path) -> None:
    path = put(tmp_path / "x.ndjson", '{"a":1}\n{"a":1,"a":2}\n' + '{"a":null}\n' * 400)
    assert [row["a"] for row in read(FileSource(path)).rows][:2] == [1, 2]


def test_decimals_are_the_numbers_that_were_written(tmp_path: Path) -> None:
    found = values(tmp_path, '{"a":0.1}\n{"a":"0.1"}\n{"a":100}\n{}\n', pl.Decimal(20, 3)).rows
    assert [row["a"] for row in found] == [Decimal("0.100"), Decimal("0.100"), Decimal(100), None]


@pytest.mark.parametrize("many", [1, MANY])
def test_an_empty_name_is_a_name(tmp_path: Path, many: int) -> None:
    path = put(tmp_path / "x.ndjson", '{"":1,"b":2}\n' * many)
    assert read(FileSource(path)).rows == [{"": 1, "b": 2}] * many
    assert read(FileSource(path), columns=[""]).rows == [{"": 1}] * many


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["[9007199254740993]", "[1.5]"], [["9007199254740993"], ["1.5"]]),
        (['{"id":9223372036854775807}', '{"id":0.5}'], [{"id": "9223372036854775807"}, {"id": "0.5"}]),
        (
            ['[{"id":[1.50]}]', '[{"id":[9007199254740993]}]'],
            [[{"id": ["1.50"]}], [{"id": ["9007199254740993"]}]],
        ),
        (["[9007199254740992]", "[1.5]"], [[9007199254740992.0], [1.5]]),
    ],
)
def test_two_identifiers_within_do_not_become_one_without_a_schema(
    tmp_path: Path, texts: list[str], values: list[Any]
) -> None:
    path = put(tmp_path / "x.ndjson", "".join(f'{{"a":{text}}}\n' for text in texts))
    assert [row["a"] for row in read(FileSource(path)).rows] == values
