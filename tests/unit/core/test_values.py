"""Python values as columns: what is stored is what was given, or it does not fit."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from streamflow.core.kinds import NOTHING, any_column, joined, kind_of
from streamflow.core.values import strict_column

MOMENT = dt.datetime(2020, 1, 1, 12, 30, 0, 123_456, tzinfo=dt.UTC)
PLUS_TWO = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=2)))


class Color(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("dtype", "value", "stored"),
    [
        (pl.Int8(), 127, 127),
        (pl.Int64(), Number.ONE, 1),
        (pl.UInt64(), 2**64 - 1, 2**64 - 1),
        (pl.Float64(), 1, 1.0),
        (pl.Float64(), 2**60, float(2**60)),
        (pl.Float32(), float("inf"), float("inf")),
        (pl.Boolean(), False, False),
        (pl.String(), Color.RED, "red"),
        (pl.Enum(["red"]), Color.RED, "red"),
        (pl.Binary(), bytearray(b"a"), b"a"),
        (pl.Date(), "2020-01-01", dt.date(2020, 1, 1)),
        (pl.Datetime("us", "UTC"), PLUS_TWO, MOMENT),
        (pl.Datetime("us", "UTC"), MOMENT.replace(tzinfo=None), MOMENT),
        (pl.Datetime("us", "UTC"), "2020-01-01T12:30:00.123456Z", MOMENT),
        (pl.Datetime("us", "UTC"), dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        (pl.Datetime("us"), PLUS_TWO, MOMENT.replace(tzinfo=None)),
        (pl.Datetime("us", "Europe/Berlin"), MOMENT, MOMENT.astimezone(ZoneInfo("Europe/Berlin"))),
        (pl.Time(), dt.time(1, 2, 3), dt.time(1, 2, 3)),
        (pl.Duration("ms"), dt.timedelta(milliseconds=5), dt.timedelta(milliseconds=5)),
        (pl.Decimal(10, 2), Decimal("1.5"), Decimal("1.50")),
        (pl.Decimal(10, 2), 1.25, Decimal("1.25")),
        (pl.Decimal(10, 2), 7, Decimal(7)),
        (pl.List(pl.Int64()), (1, None), [1, None]),
        (pl.List(pl.Float64()), [1, 1.5], [1.0, 1.5]),
        (pl.Array(pl.Int64(), 2), [1, 2], [1, 2]),
        (pl.Struct({"a": pl.Int64()}), {"a": 1}, {"a": 1}),
        (pl.List(pl.Struct({"at": pl.Datetime("us", "UTC")})), [{"at": PLUS_TWO}], [{"at": MOMENT}]),
    ],
)
def test_what_fits_is_stored_as_it_is(dtype: pl.DataType, value: Any, stored: Any) -> None:
    column, misfits = strict_column("x", [None, value], dtype)
    assert column.to_list() == [None, stored]
    assert (column.dtype, misfits) == (dtype, {})


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.Int8(), 128),
        (pl.Int64(), 1.5),
        (pl.Int64(), 1.0),
        (pl.Int64(), True),
        (pl.Int64(), "1"),
        (pl.UInt64(), -1),
        (pl.Int64(), 2**63),
        (pl.Float64(), True),
        (pl.Float64(), 2**53 + 1),
        (pl.Float64(), Decimal("1.5")),
        (pl.Float32(), 1e300),
        (pl.Boolean(), 2),
        (pl.Boolean(), 1),
        (pl.String(), 1),
        (pl.String(), b"a"),
        (pl.String(), "\ud800"),
        (pl.Enum(["red"]), "blue"),
        (pl.Binary(), "a"),
        (pl.Date(), MOMENT),
        (pl.Date(), 18_000),
        (pl.Datetime("ms"), 1_577_836_800_000),
        (pl.Datetime("us", "UTC"), 1.5),
        (pl.Datetime("us", "UTC"), "yesterday"),
        (pl.Datetime("ms"), MOMENT),
        (pl.Datetime("ns"), dt.datetime(1, 1, 1)),  # noqa: DTZ001
        (pl.Time(), dt.time(1, tzinfo=dt.UTC)),
        (pl.Time(), 5),
        (pl.Duration("us"), 5),
        (pl.Duration("ms"), dt.timedelta(microseconds=5)),
        (pl.Duration("us"), dt.timedelta.max),
        (pl.Decimal(10, 2), Decimal("1.555")),
        (pl.Decimal(5, 2), 123456),
        (pl.Decimal(10, 2), Decimal("NaN")),
        (pl.Decimal(10, 2), True),
        (pl.List(pl.Int64()), [1.5]),
        (pl.List(pl.Int64()), "12"),
        (pl.List(pl.Int64()), 1),
        (pl.Array(pl.Int64(), 2), [1]),
        (pl.Struct({"a": pl.Int64()}), {"a": 1.5}),
        (pl.Struct({"a": pl.Int64()}), 1),
        (pl.List(pl.Struct({"a": pl.Boolean()})), [{"a": 2}]),
        (pl.Null(), 1),
    ],
)
def test_what_would_be_changed_does_not_fit(dtype: pl.DataType, value: Any) -> None:
    column, misfits = strict_column("x", [value, None], dtype)
    assert column.to_list() == [None, None]
    assert list(misfits) == [0]
    assert "'x'" in misfits[0]


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (1, 2.5, pl.Float64()),
        (1, 2**60, pl.Int64()),
        (1, 2**64, pl.Int128()),
        (None, "a", pl.String()),
        ([], [1], pl.List(pl.Int64())),
        ([1], [2.5], pl.List(pl.Float64())),
        ({"a": None}, {"a": "x"}, pl.Struct({"a": pl.String()})),
        (Decimal("1.5"), Decimal("2.25"), pl.Decimal(38, 2)),
        (MOMENT, PLUS_TWO, pl.Datetime("us", "UTC")),
    ],
)
def test_these_stand_in_one_column(left: Any, right: Any, both: pl.DataType) -> None:
    for values in ([left, right], [right, left]):
        column, misfits = any_column("x", values)
        assert (column.dtype, misfits) == (both, {})
        assert column.to_list() == values


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (0, "0"),
        (1, True),
        (1.5, True),
        (2**60, 0.5),
        (1, Decimal(1)),
        (b"a", "a"),
        (dt.date(2020, 1, 1), "2020-01-01"),
        (dt.date(2020, 1, 1), MOMENT),
        (MOMENT, MOMENT.replace(tzinfo=None)),
        (dt.timedelta(1), 1),
        ([1], ["a"]),
        ([1], 1),
        ({"a": 1}, {"a": "x"}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_these_do_not_stand_in_one_column_and_the_first_decides(left: Any, right: Any) -> None:
    for values in ([left, right], [right, left]):
        column, misfits = any_column("x", [None, *values])
        assert column.to_list() == [None, values[0], None]
        assert list(misfits) == [2]


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 + 2j, [1, "a"], {}, {1: 2}, 2**200, print])
def test_these_stand_in_no_column(value: Any) -> None:
    column, misfits = any_column("x", [value])
    assert (column.to_list(), list(misfits)) == ([None], [0])


def test_joining_kinds_does_not_depend_on_the_order() -> None:
    kinds = [
        kind_of(v) for v in (None, 1, 2**60, 2**64, 1.5, "a", True, [1], [1.5], ["a"], {"a": 1}, {"a": 1.5})
    ]
    for left in kinds:
        assert joined(left, NOTHING) == left
        for right in kinds:
            assert joined(left, right) == joined(right, left)


def test_a_field_that_a_struct_has_not_is_left_out_or_told() -> None:
    dtype = pl.List(pl.Struct({"total": pl.Int64()}))
    values = [[{"total": 1}], [{"totl": 1}], [{}]]
    assert strict_column("x", values, dtype)[1] == {}
    column, misfits = strict_column("x", values, dtype, whole=True)
    assert column.to_list() == [[{"total": 1}], None, [{"total": None}]]
    assert misfits == {1: "'x': no field 'totl'; there are: total; did you mean 'total'?"}
