"""Debezium's changes as rows with their kind, against the same in plain Python; and what is no change."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.schema import OBJECTS, Schema
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.kafka.formats.codecs import decoder

SCHEMA = Schema({"id": pl.Int64, "name": pl.String})
ROW = st.fixed_dictionaries({"id": st.integers(-(2**63), 2**63 - 1), "name": st.none() | st.text(max_size=3)})
VALUE = st.fixed_dictionaries(
    {"op": st.sampled_from(["c", "r", "u", "d", "t", "m", None])},
    optional={
        "before": st.none() | ROW,
        "after": st.none() | ROW,
        "ts_ms": st.integers(0, 9),
        "source": st.just({"table": "items"}),
    },
)
KINDS = {
    "c": [("insert", "after")],
    "r": [("insert", "after")],
    "u": [("update_before", "before"), ("update_after", "after")],
    "d": [("delete", "before")],
}


def expected(values: list[dict[str, Any]]) -> tuple[list[tuple[Any, ...]], list[int], list[int]]:
    """The rows, the value that each came from, and the values that are no changes."""
    rows: list[tuple[Any, ...]] = []
    origin: list[int] = []
    bad: list[int] = []
    for index, value in enumerate(values):
        sides = KINDS.get(value["op"] or "", [])
        if not sides or any(value.get(side) is None for _, side in sides):
            bad.append(index)
        else:
            rows += [(kind, value[side]["id"], value[side]["name"]) for kind, side in sides]
            origin += [index] * len(sides)
    return rows, origin, bad


@given(values=st.lists(VALUE, max_size=6), wrapped=st.lists(st.booleans(), min_size=6, max_size=6))
def test_each_change_is_its_rows_and_others_are_bad(
    values: list[dict[str, Any]], wrapped: list[bool]
) -> None:
    sent = [
        json.dumps({"schema": {"type": "struct"}, "payload": value} if inside else value).encode()
        for value, inside in zip(values, wrapped, strict=False)
    ]
    decoded = decoder("debezium", SCHEMA).decode(sent)
    rows, origin, bad = expected(values)
    assert isinstance(decoded.rows, pl.DataFrame)
    assert decoded.rows.columns == ["change", "id", "name"]
    assert decoded.rows.rows() == rows
    assert list(decoded.origin or []) == origin
    assert [index for index, _ in decoded.bad] == bad


@pytest.mark.parametrize("columns", [["name"], ["change"], [], ["change", "id"]])
def test_only_the_columns_that_are_read(columns: list[str]) -> None:
    value = b'{"op":"u","before":{"id":1,"name":null},"after":{"id":1,"name":"b"}}'
    narrow = decoder("debezium", SCHEMA, columns=columns)
    whole = decoder("debezium", SCHEMA).decode([value]).rows
    rows = narrow.decode([value]).rows
    assert isinstance(rows, pl.DataFrame)
    assert isinstance(whole, pl.DataFrame)
    assert rows.columns == (columns or ["change"])
    assert rows.equals(whole.select(rows.columns))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b'{"op":"u","after":{"id":1}}', "op 'u' without 'before' (PostgreSQL gives it with ALTER TABLE"),
        (b'{"op":"c","before":{"id":1}}', "op 'c' without 'after'"),
        (b'{"op":"t"}', "op 't' changes no row; there are c, r, u, d"),
        (b'{"id":1,"name":"a"}', "no change of Debezium: it has no op"),
        (b'{"op":"c","after":{"id":"x"}}', ""),
        (b'{"op":"c","after":', "not valid JSON"),
    ],
)
def test_a_bad_one_tells_the_reason_and_leaves_its_neighbours(value: bytes, told: str) -> None:
    good = b'{"op":"d","before":{"id":7,"name":"x"},"after":null}'
    decoded = decoder("debezium", SCHEMA).decode([good, value, good])
    ((index, why),) = decoded.bad
    assert (index, told in why) == (1, True), why
    assert isinstance(decoded.rows, pl.DataFrame)
    assert decoded.rows.rows() == [("delete", 7, "x")] * 2
    assert list(decoded.origin or []) == [0, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs the columns"),
        ({"schema": OBJECTS}, "needs the columns"),
        ({"schema": {"change": str}}, "is named 'change'"),
        ({"schema": {"id": int}, "tombstones": "keep"}, "is no change"),
        ({"schema": {"id": int}, "include": {"offset": "change"}}, "which the schema has, too"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(JobDefinitionError, match=told):
        sf.KafkaSource("items", format="debezium", **options)
