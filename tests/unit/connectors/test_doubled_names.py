"""Of two values of one name in a JSON object the last counts, also where one record alone has two, among thousands."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import Schema
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.connectors.kafka.formats.json_values import JsonColumns
from tests.unit.connectors.driving import read

MANY = 2_000
"""Records, of 100 kB and more: so many are not all parsed by Python."""

SCHEMA = {"a": pl.Int64, "b": pl.String, "c": pl.Float64}


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"a": number, "b": f"text {number}", "c": number / 2, **more}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


STYLES = {
    "all fields": lambda n: record(n),
    "many nulls": lambda n: record(n, b=None if n % 3 else "x"),
    "few nulls": lambda n: record(n, b=None if n == 7 else "x"),
    "nulls left out": lambda n: without(record(n), "c") if n % 3 else record(n),
    "one field left out": lambda n: without(record(n), "c") if n == 9 else record(n),
    "other fields": lambda n: record(n, other="text", more=n),
    "quotes and escapes": lambda n: record(n, b=f'"{n}" \\ \n é'),
    "nested others": lambda n: record(n, other={"a": n, "z": [n]}, more=[{"b": "x"}]),
    "others that differ": lambda n: record(n, **{f"other{n % 3}": "text" if n % 2 else n}),
    "colons": lambda n: record(n, b=':":'),
}
DOUBLED = [
    '{"a": 1, "b": "x", "c": 1.0, "a": 2}',
    '{"a": 1, "b": "x", "c": 1.0, "b": "y"}',
    '{"a": 1, "b": "x", "c": 1.0, "c": null}',
    '{"a": 1, "b": null, "c": 1.0, "b": "y"}',
    '{"a": 1, "a": 2, "b": "x"}',
    '{"a": 1, "b": "x", "c": 1.0, "\\u0061": 2}',
]


@cache
def plain_lines(style: str) -> tuple[str, ...]:
    return tuple(json.dumps(STYLES[style](number)) for number in range(MANY))


@cache
def fields_of(line: str) -> tuple[Any, ...]:
    value = json.loads(line)
    return tuple(value.get(name) for name in SCHEMA)


def lines_of(style: str, odd: str, at: int) -> list[str]:
    lines = list(plain_lines(style))
    last = json.loads(odd)
    others = {name: value for name, value in STYLES[style](at).items() if name not in SCHEMA}
    if others:
        odd = odd[:-1] + "," + json.dumps(others)[1:]
    lines[at] = odd
    assert {name: json.loads(lines[at]).get(name) for name in SCHEMA} == {
        name: last.get(name) for name in SCHEMA
    }
    return lines


@pytest.mark.parametrize("odd", DOUBLED)
@pytest.mark.parametrize("style", STYLES)
def test_a_doubled_name_alone_in_a_file(style: str, odd: str, tmp_path: Path) -> None:
    lines = lines_of(style, odd, at=1_345)
    path = tmp_path / "x.ndjson"
    path.write_text("\n".join(lines) + "\n")
    expected = [fields_of(line) for line in lines]
    got = read(FileSource(path, schema=SCHEMA), batch_rows=MANY)
    assert [tuple(row.values()) for row in got.rows] == expected


@pytest.mark.parametrize("odd", DOUBLED[:3])
def test_a_doubled_name_alone_in_a_batch_of_kafka(odd: str) -> None:
    values = [line.encode() for line in lines_of("all fields", odd, at=17)]
    decoded = JsonColumns(Schema({name: dtype() for name, dtype in SCHEMA.items()}), 1 << 20).decode(values)
    assert isinstance(decoded.rows, pl.DataFrame)
    last = json.loads(odd)
    assert decoded.rows.row(17, named=True) == {name: last.get(name) for name in SCHEMA}


NESTED = {
    "a": pl.Int64,
    "d": pl.Struct({"x": pl.Int64, "y": pl.Struct({"z": pl.String})}),
    "l": pl.List(pl.Struct({"x": pl.Int64})),
}


@pytest.mark.parametrize(
    "odd",
    [
        '{"a": 1, "d": {"x": 1, "y": {"z": "p"}}, "l": [], "a": 2}',
        '{"a": 1, "d": {"x": 1, "y": {"z": "p"}, "x": 2}, "l": [{"x": 1}]}',
        '{"a": 1, "d": {"x": 1, "y": {"z": "p", "z": "q"}}, "l": [{"x": 1}]}',
        '{"a": 1, "d": {"x": 1, "y": {"z": "p"}}, "l": [{"x": 1}, {"x": 2, "x": 3}]}',
        '{"a": 1, "d": {"x": 1, "y": {"z": "p"}}, "l": [{"x": 2, "\\u0078": 3}]}',
    ],
)
@pytest.mark.parametrize("nulls", [False, True])
def test_a_doubled_name_in_nested_values_alone_in_a_file(odd: str, nulls: bool, tmp_path: Path) -> None:
    lines = [
        json.dumps({"a": n, "d": {"x": n, "y": None if nulls else {"z": "t"}}, "l": [{"x": n}] * (n % 3)})
        for n in range(MANY)
    ]
    lines[1_345] = odd
    path = tmp_path / "x.ndjson"
    path.write_text("\n".join(lines))
    got = read(FileSource(path, schema=NESTED), batch_rows=MANY)
    assert got.rows == [json.loads(line) for line in lines]


def test_where_in_the_file_it_stands_does_not_matter(tmp_path: Path) -> None:
    draw = random.Random(5)
    for at in (0, 1, MANY - 1, *(draw.randrange(MANY) for _ in range(5))):
        path = tmp_path / f"{at}.ndjson"
        path.write_text("\n".join(lines_of("few nulls", DOUBLED[0], at=at)))
        assert read(FileSource(path, schema=SCHEMA), batch_rows=MANY).rows[at]["a"] == 2


FLAT = {"a": pl.Int64, "b": pl.String}
PLAIN = '{"a":1,"b":"x"}'
TWICE = '{"a":1,"b":"x","a":2}'
ROOM = {
    "for a field that nobody reads": (['{"a":1,"a":2}'], '{"a":1,"k":5}', {"a": pl.Int64}),
    "for one that is read": ([TWICE, '{"b":"x"}'] * 30, PLAIN, FLAT),
    "for the quotes of a text": (['{"a":1,"b":1.10,"a":2}'], PLAIN, FLAT),
    "for quotes within texts": ([TWICE, *['{"a":1,"b":"\\u0022"}'] * 2], '{"a":1,"b":"x\\"y"}', FLAT),
    "beside backslashes": ([TWICE, *['{"a":1,"b":"x\\\\"}'] * 2], PLAIN, FLAT),
}


@pytest.mark.parametrize("many", [20, 20_000])
@pytest.mark.parametrize(("odd", "line", "schema"), ROOM.values(), ids=ROOM)
def test_what_is_lacking_makes_no_room_for_a_doubled_name(
    odd: list[str], line: str, schema: dict[str, Any], many: int, tmp_path: Path
) -> None:
    lines = [line] * many
    lines[many // 3 : many // 3] = odd
    path = tmp_path / "x.ndjson"
    path.write_text("\n".join(lines))
    got = read(FileSource(path, schema=schema), batch_rows=2 * many).rows
    expected = [{name: json.loads(each).get(name) for name in schema} for each in lines]
    for row in expected:
        row |= {"b": "1.10"} if row.get("b") == 1.1 else {}
    assert got == expected


WRITTEN = {
    "a": ["1", "2", "null"],
    "b": ['"x"', '"y\\"z"', "7", "true", "false", "null"],
    "u": ['"x"', '""', "7", "true", "null", "[1]", '["q"]', "{}"],
    "n": ["1", "2.5", '"x"', "null"],
}
"""Values of a line, of which nobody reads the last two."""


ODD = [
    {"a": "1", "b": '"x"', "u": '"y"', "n": "5", name: value}
    for name, values in WRITTEN.items()
    for value in (*values, None)
]


@pytest.mark.parametrize("doubled", ['"a":2', '"b":"z"', '"u":"z"', '"n":1'])
@pytest.mark.parametrize("others", [1, 2])
def test_no_other_odd_line_hides_a_doubled_name(others: int, doubled: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    for odd in ODD:
        lines = ['{"a":1,"b":"x","u":"y","n":5}'] * 3_000
        written = ",".join(f'"{name}":{value}' for name, value in odd.items() if value is not None)
        lines[1_000 : 1_000 + others] = ["{" + written + "}"] * others
        lines[2_000] = f'{{"a":1,"b":"x","u":"y","n":5,{doubled}}}'
        path.write_text("\n".join(lines))
        got = read(FileSource(path, schema=FLAT), batch_rows=2 * len(lines)).rows
        expected: dict[str, dict[str, Any]] = {}
        for line in set(lines):
            value = json.loads(line)
            b = value.get("b")
            text = b if b is None or isinstance(b, str) else json.dumps(b)
            expected[line] = {"a": value.get("a"), "b": text}
        assert got == [expected[line] for line in lines], odd
