"""Key groups: golden values, an independent XXH64, and the scalar against the vectorised path."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.keys import MAX_PARALLELISM_LIMIT, key_group_of, key_group_range, key_groups, subtask_of
from streamflow.errors import JobDefinitionError

M = MAX_PARALLELISM_LIMIT
_MASK = 2**64 - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5

# XXH64 with seed 0, from the published test vectors of the algorithm.
PUBLISHED = {b"": 0xEF46DB3751D8E999, b"a": 0xD24EC4F1A98C6E5B, b"abc": 0x44BC2CF5AD770999}

# The canonical form of a key and its group of 128, under which state written once is found for ever: a change here
# loses state. Each group is what an independent XXH64 (below) gives for the form.
GOLDEN: list[tuple[object, bytes, int]] = [
    ("JFK", b"JFK", 36),
    ("LGA", b"LGA", 109),
    ("", b"", 25),
    ("Zürich", b"Z\xc3\xbcrich", 121),
    (b"\x00\xff", b"\x00\xff", 125),
    (0, b"0", 108),
    (1, b"1", 84),
    (-1, b"-1", 88),
    (2**63, b"9223372036854775808", 35),
    (True, b"1", 84),
    (1.0, b"1", 84),
    (1.5, b"f4609434218613702656", 53),
    (math.inf, b"f9218868437227405312", 32),
    (math.nan, b"nan", 55),
    (Decimal("12.50"), b"12.5", 27),
    (date(2013, 1, 1), b"15706", 96),
    (datetime(2013, 1, 1, 5, 17, tzinfo=UTC), b"1357017420000000", 86),
    (time(5, 17), b"19020000000000", 50),
    (timedelta(seconds=90), b"90000000", 9),
    ([1, 2], b"[13237225503670494420,6927017134761466251]", 4),
    ([], b"[]", 86),
]
GOLDEN_TUPLES: list[tuple[object, int]] = [
    (None, 21),
    (("ab", "c"), 32),
    (("a", "bc"), 114),
    (("a", None), 88),
]


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotate((accumulator + lane * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0, after the algorithm's specification."""
    rest = data
    if len(data) >= 32:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while len(rest) >= 32:
            for i in range(4):
                lanes[i] = _round(lanes[i], int.from_bytes(rest[8 * i : 8 * i + 8], "little"))
            rest = rest[32:]
        digest = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            digest = ((digest ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        digest = _P5
    digest = (digest + len(data)) & _MASK
    while len(rest) >= 8:
        digest = (_rotate(digest ^ _round(0, int.from_bytes(rest[:8], "little")), 27) * _P1 + _P4) & _MASK
        rest = rest[8:]
    if len(rest) >= 4:
        digest = (
            _rotate(digest ^ (int.from_bytes(rest[:4], "little") * _P1 & _MASK), 23) * _P2 + _P3
        ) & _MASK
        rest = rest[4:]
    for byte in rest:
        digest = _rotate(digest ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    for shift, prime in ((33, _P2), (29, _P3)):
        digest = (digest ^ (digest >> shift)) * prime & _MASK
    return digest ^ (digest >> 32)


def combined(key: object) -> int:
    """The digest of texts and nulls in a tuple: a polynomial in the digests modulo 2³¹ - 1."""
    if key is None:
        return 0x9E3779B97F4A7C15
    if isinstance(key, str):
        return xxh64(key.encode())
    assert isinstance(key, tuple)
    total = 0
    for part in key:
        total = (total * 1_812_433_253 + combined(part)) % (2**31 - 1)
    return total


def group_in_column(value: object, dtype: pl.DataType | type[pl.DataType] | None = None) -> int:
    """Between two nulls, so that a row's neighbours are part of the test."""
    column = pl.Series("k", [None, value, None], dtype=dtype, strict=True)
    groups = key_groups(column.to_frame(), ["k"], M).to_list()
    assert groups[0] == groups[2] == key_group_of(None, M)
    return int(groups[1])


@pytest.mark.parametrize(("data", "digest"), PUBLISHED.items())
def test_a_text_key_is_hashed_with_xxh64(data: bytes, digest: int) -> None:
    assert xxh64(data) == digest
    assert group_in_column(data.decode()) == digest % M
    assert group_in_column(data) == digest % M


@given(st.binary(max_size=100))
def test_the_hash_is_the_independent_xxh64(data: bytes) -> None:
    assert group_in_column(data, pl.Binary) == xxh64(data) % M


@pytest.mark.parametrize(("value", "form", "group"), GOLDEN, ids=[repr(value) for value, _, _ in GOLDEN])
def test_golden_groups(value: object, form: bytes, group: int) -> None:
    assert xxh64(form) % 128 == group
    assert key_group_of(value, 128) == group


@pytest.mark.parametrize(("value", "group"), GOLDEN_TUPLES)
def test_golden_groups_of_combined_keys(value: object, group: int) -> None:
    assert combined(value) % 128 == group
    assert key_group_of(value, 128) == group


def test_another_process_with_another_hash_seed_agrees() -> None:
    script = "from streamflow.core.keys import key_group_of; print(key_group_of(('Zürich', 7, 1.5), 32768))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert int(done.stdout) == key_group_of(("Zürich", 7, 1.5), M)


_whole = st.integers(-(2**63), 2**63 - 1)
_moments = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))  # noqa: DTZ001
VALUES = [
    (pl.String, st.text(st.characters(codec="utf-8"))),
    (pl.Binary, st.binary()),
    (pl.Int64, _whole),
    (pl.UInt64, st.integers(0, 2**64 - 1)),
    (pl.Int128, st.integers(-(2**100), 2**100)),
    (pl.Int8, st.integers(-128, 127)),
    (pl.Float64, st.floats()),
    (pl.Float32, st.floats(width=32)),
    (pl.Boolean, st.booleans()),
    (pl.Date, st.dates()),
    (pl.Datetime("us"), st.datetimes()),
    (pl.Datetime("ns"), _moments),
    (pl.Datetime("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    (pl.Time, st.times()),
    (pl.Duration("us"), st.timedeltas(timedelta(days=-90_000_000), timedelta(days=90_000_000))),
    (pl.Duration("ns"), st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000))),
    (pl.Decimal(20, 4), st.decimals(-(10**15), 10**15, places=3)),
    (pl.Decimal(20, 0), st.decimals(-(10**15), 10**15, places=0)),
    (pl.List(pl.Int64), st.lists(st.none() | _whole, max_size=4)),
    (
        pl.List(pl.List(pl.String)),
        st.lists(st.none() | st.lists(st.sampled_from(["", "a", ",", "]"])), max_size=3),
    ),
    (pl.Array(pl.Int16, 2), st.lists(st.integers(-100, 100), min_size=2, max_size=2)),
    (
        pl.Struct({"a": pl.Int32, "b": pl.String}),
        st.fixed_dictionaries({"a": st.none() | st.integers(-9, 9), "b": st.none() | st.text("xy")}),
    ),
    (pl.Enum(["x", "y"]), st.sampled_from(["x", "y"])),
    (pl.Categorical(), st.sampled_from(["x", "y"])),
]


@pytest.mark.parametrize(("dtype", "values"), VALUES, ids=[str(dtype) for dtype, _ in VALUES])
@given(data=st.data())
def test_one_value_has_the_group_of_its_column(
    dtype: pl.DataType | type[pl.DataType], values: st.SearchStrategy[object], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert group_in_column(value, dtype) == key_group_of(value, M)


@given(st.lists(st.tuples(st.none() | st.text("ab"), st.none() | st.integers(-5, 5)), min_size=1))
def test_several_columns_are_one_tuple(rows: list[tuple[str | None, int | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")
    groups = key_groups(frame, ["a", "b"], M)
    assert groups.to_list() == [key_group_of(row, M) for row in rows]
    assert groups.dtype == pl.UInt16
    assert groups.name == "key_group"
    for struct in (pl.struct("a", "b"), pl.struct("b", "a")):
        assert key_groups(frame.select(k=struct), ["k"], M).to_list() == groups.to_list()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", "b"), ("b", "a")),
        ((None, "a"), ("a", None)),
        (("", "a"), ("a", "")),
        (["a,b"], ["a", "b"]),
        ([[1], [2]], [[1, 2]]),
        ([], None),
        ("", None),
    ],
)
def test_different_keys_that_are_easily_confused(left: object, right: object) -> None:
    assert key_group_of(left, M) != key_group_of(right, M)


@pytest.mark.parametrize("value", [0, 1, 7, -100])
def test_equal_numbers_of_all_types_share_a_group(value: int) -> None:
    group = key_group_of(value, M)
    for dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.Float32, pl.Float64):
        assert group_in_column(value, dtype) == group
    assert group_in_column(Decimal(value), pl.Decimal(10, 3)) == group
    assert key_group_of(float(value), M) == key_group_of(Decimal(f"{value}.00"), M) == group


def test_zero_has_no_sign_and_every_nan_is_one() -> None:
    assert group_in_column(-0.0) == group_in_column(0.0) == key_group_of(-0.0, M)
    other_nan = pl.Series("k", [-math.nan]).to_frame()
    assert key_groups(other_nan, ["k"], M).to_list() == [key_group_of(math.nan, M)]


def test_one_moment_has_one_group_in_every_unit_and_zone() -> None:
    moment = datetime(2013, 1, 1, 5, 17, tzinfo=UTC)
    group = key_group_of(moment, M)
    assert key_group_of(moment.astimezone(timezone(timedelta(hours=-5))), M) == group
    assert key_group_of(moment.replace(tzinfo=None), M) == group
    for unit in ("ms", "us", "ns"):
        column = pl.Series("k", [moment]).dt.cast_time_unit(unit).dt.convert_time_zone("America/New_York")
        assert key_groups(column.to_frame(), ["k"], M).to_list() == [group]


def test_groups_are_spread_evenly() -> None:
    counts = key_groups(pl.DataFrame({"k": [f"user-{i}" for i in range(64_000)]}), ["k"], 64).value_counts()[
        "count"
    ]
    assert counts.len() == 64
    assert int(counts.min() or 0) > 850  # type: ignore[call-overload]
    assert int(counts.max() or 0) < 1150  # type: ignore[call-overload]


def test_an_empty_frame_has_no_groups() -> None:
    assert key_groups(pl.DataFrame(schema={"k": pl.String}), ["k"], 128).to_list() == []


@given(st.integers(1, 300).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, m))))
def test_ranges_cover_all_groups_once_and_agree_with_subtask_of(sizes: tuple[int, int]) -> None:
    max_parallelism, parallelism = sizes
    owners = [
        subtask
        for subtask in range(parallelism)
        for _ in key_group_range(subtask, parallelism, max_parallelism)
    ]
    groups = range(max_parallelism)
    assert [g for s in range(parallelism) for g in key_group_range(s, parallelism, max_parallelism)] == list(
        groups
    )
    assert owners == [subtask_of(group, parallelism, max_parallelism) for group in groups]
    assert owners == subtask_of(pl.Series(groups, dtype=pl.UInt16), parallelism, max_parallelism).to_list()
    sizes_of = [len(key_group_range(s, parallelism, max_parallelism)) for s in range(parallelism)]
    assert max(sizes_of) - min(sizes_of) <= 1


def test_subtask_of_does_not_overflow_at_the_limits() -> None:
    assert subtask_of(pl.Series([M - 1], dtype=pl.UInt16), M, M).to_list() == [M - 1]


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(JobDefinitionError, match="did you mean 'origin'"):
        key_groups(pl.DataFrame({"origin": ["a"]}), ["orgin"], 128)


@pytest.mark.parametrize("value", [object(), {1, 2}, (), {}, Decimal("NaN"), time(1, tzinfo=UTC), "\ud800"])
def test_what_cannot_be_a_key(value: object) -> None:
    with pytest.raises(JobDefinitionError, match="cannot be a key"):
        key_group_of(value, 128)


def test_a_column_of_objects_cannot_be_a_key() -> None:
    with pytest.raises(JobDefinitionError, match="cannot be a key"):
        key_groups(pl.DataFrame({"k": pl.Series([object()], dtype=pl.Object)}), ["k"], 128)


@pytest.mark.parametrize("max_parallelism", [0, -1, MAX_PARALLELISM_LIMIT + 1])
def test_max_parallelism_is_checked(max_parallelism: int) -> None:
    frame = pl.DataFrame({"k": ["a"]})
    for call in (
        lambda: key_groups(frame, ["k"], max_parallelism),
        lambda: key_group_of("a", max_parallelism),
        lambda: key_group_range(0, 1, max_parallelism),
        lambda: subtask_of(0, 1, max_parallelism),
    ):
        with pytest.raises(JobDefinitionError, match="max_parallelism"):
            call()


def test_parallelism_and_subtask_are_checked() -> None:
    with pytest.raises(JobDefinitionError, match="parallelism is 9"):
        key_group_range(0, 9, 8)
    with pytest.raises(JobDefinitionError, match="subtask 2"):
        key_group_range(2, 2, 8)
    with pytest.raises(JobDefinitionError, match="key group 8"):
        subtask_of(8, 2, 8)
    with pytest.raises(JobDefinitionError, match="no key columns"):
        key_groups(pl.DataFrame({"k": ["a"]}), [], 8)
