"""Schemas: what may stand in one, and how a name that is not there is told."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.records.schema import EVENT_TIME, Schema


def test_bare_types_are_instantiated_and_datetime_means_utc_microseconds() -> None:
    schema = Schema({"a": sf.String, "t": sf.Datetime, "d": pl.Decimal(10, 2)})
    assert dict(schema) == {"a": pl.String(), "t": pl.Datetime("us", "UTC"), "d": pl.Decimal(10, 2)}


@pytest.mark.parametrize("dtype", [str, int, "String", None, 3])
def test_what_is_no_polars_type_is_refused(dtype: Any) -> None:
    with pytest.raises(sf.JobDefinitionError, match="column 'a' has type"):
        Schema({"a": dtype})


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
