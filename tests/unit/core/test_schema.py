"""Schemas: what may stand in one, and how a name that is not there is told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import EVENT_TIME, Schema


def test_bare_types_are_instantiated_and_datetime_means_utc_microseconds() -> None:
    schema = Schema({"a": sf.String, "t": sf.Datetime, "d": pl.Decimal(10, 2)})
    assert dict(schema) == {"a": pl.String(), "t": pl.Datetime("us", "UTC"), "d": pl.Decimal(10, 2)}


def test_datetime_means_the_same_in_lists_and_structs() -> None:
    utc = pl.Datetime("us", "UTC")
    schema = Schema(
        {
            "l": sf.List(sf.Datetime),
            "s": sf.List(sf.Struct({"at": sf.Datetime, "n": sf.Int64})),
            "plain": sf.List(pl.Datetime("us")),
        }
    )
    assert dict(schema) == {
        "l": pl.List(utc),
        "s": pl.List(pl.Struct({"at": utc, "n": pl.Int64()})),
        "plain": pl.List(pl.Datetime("us")),
    }


def test_the_reserved_name_is_refused() -> None:
    with pytest.raises(sf.JobDefinitionError, match="cannot be named"):
        Schema({EVENT_TIME: sf.Datetime})


def test_need_gives_the_type_or_names_the_nearest() -> None:
    schema = Schema({"origin": sf.String})
    assert schema.need("origin") == pl.String()
    with pytest.raises(sf.JobDefinitionError, match="did you mean 'origin'"):
        schema.need("orgin")


def test_an_empty_frame_has_the_columns() -> None:
    assert Schema({"a": sf.Int64}).empty(timed=True).columns == ["a", EVENT_TIME]


def test_python_types_stand_for_columns() -> None:
    schema = Schema({"card": str, "amount": float, "at": datetime, "tags": list[str], "n": int | None})
    assert dict(schema) == {
        "card": pl.String(),
        "amount": pl.Float64(),
        "at": pl.Datetime("us", "UTC"),
        "tags": pl.List(pl.String()),
        "n": pl.Int64(),
    }


@pytest.mark.parametrize("wrong", ["str", 3, dict, list, pl.List, tuple[int, int], None, [str]])
def test_what_says_no_column_is_refused(wrong: object) -> None:
    with pytest.raises(sf.JobDefinitionError, match="column 'a' has type"):
        Schema({"a": wrong})


@pytest.mark.parametrize("wrong", [["a", "b"], [("a", int)], "a", 3, {1: int}, {None: int}])
def test_what_is_no_mapping_of_names_is_refused(wrong: Any) -> None:
    with pytest.raises(sf.JobDefinitionError, match=r"no mapping|cannot be named"):
        sf.FileSource("in.ndjson", schema=wrong)
