"""Values and frames as bytes: they come back as they were, and no other bytes do anything but raise."""

from __future__ import annotations

import math
import random
import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack  # type: ignore[import-untyped]
import polars as pl
import pytest
from hypothesis import given
from polars.testing import assert_frame_equal

from streamflow.core.serde import MAX_DEPTH, frame_to_ipc, ipc_to_frame, pack, unpack
from streamflow.errors import RecordError, StateError
from tests.stored_values import stored_values


def same(left: object, right: object) -> bool:
    """Equal, and of equal types all the way down (True is not 1, (1,) is not [1])."""
    return left == right and repr(left) == repr(right)


@given(stored_values)
def test_values_come_back_as_they_were(value: object) -> None:
    data = pack(value)
    assert same(unpack(data), value)
    assert pack(unpack(data)) == data


GOLDEN = [
    ({"k": [1, "a", None, True]}, "81a16b9401a161c0c3"),
    (2**64, "c70901010000000000000000"),
    (datetime(2013, 1, 1, 5, 17), "c70702" + "04d2333d45eb00"),  # noqa: DTZ001
    (datetime(2013, 1, 1, 5, 17, tzinfo=UTC), "d6ff50e2714c"),
    (date(2013, 1, 1), "c703030b3695"),
    ((1, "a"), "d6079201a161"),
    (Decimal("1.50"), "d606" + "312e3530"),
    (UUID(int=1), "d808" + "00" * 15 + "01"),
    (
        datetime(2013, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        "c71609" + "01" + "0004e9afc295fa00" + b"Europe/Berlin".hex(),
    ),
    (
        datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=-5))),
        "c70d0a" + "0004d22ecf97c000" + "fbcf1dcc00",
    ),
]


@pytest.mark.parametrize(("value", "data"), GOLDEN, ids=[repr(value) for value, _ in GOLDEN])
def test_golden_bytes(value: object, data: str) -> None:
    assert pack(value).hex() == data
    assert same(unpack(bytes.fromhex(data)), value)


class Ahead(tzinfo):
    """A zone that nobody else knows."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=3)

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "ahead"


def test_a_zone_that_nobody_else_knows_comes_back_as_its_offset_and_utc_as_utc() -> None:
    at = datetime(2013, 1, 1)  # noqa: DTZ001 — its zone comes below
    offset = timezone(timedelta(hours=3))
    assert same(unpack(pack(at.replace(tzinfo=Ahead()))), at.replace(tzinfo=offset))
    places = [Path(place, "Asia/Aden") for place in zoneinfo.TZPATH]
    with next(place for place in places if place.exists()).open("rb") as file:
        unknown = ZoneInfo.from_file(file, key="Nowhere/At_all")
    assert same(unpack(pack(at.replace(tzinfo=unknown))), at.replace(tzinfo=offset))
    assert same(unpack(pack(at.replace(tzinfo=ZoneInfo("UTC")))), at.replace(tzinfo=UTC))


def test_without_zones_equal_times_are_the_same_bytes() -> None:
    moment = datetime(2013, 1, 1, tzinfo=UTC)
    for zone in (ZoneInfo("Asia/Kolkata"), timezone(timedelta(hours=-5)), Ahead()):
        elsewhere = {"at": (moment.astimezone(zone), 1)}
        assert pack(elsewhere, zones=False) == pack({"at": (moment, 1)})
    with pytest.raises(RecordError, match="out of range"):
        pack(datetime(1, 1, 1, tzinfo=Ahead()), zones=False)


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (9, b""),
        (9, b"\0" * 9),
        (9, b"\2" + b"\0" * 8 + b"Europe/Berlin"),
        (9, b"\0" * 9 + b"Nowhere/At_all"),
        (9, b"\0" * 9 + b"../../etc/passwd"),
        (9, b"\0" * 9 + b"Europe"),
        (9, b"\0" * 9 + b"\xff"),
        (9, b"\0" * 9 + b"x" * 10_000),
        (9, b"\0" + b"\x7f" * 8 + b"Europe/Berlin"),
        (10, b""),
        (10, b"\0" * 7),
        (10, b"\0" * 8 + b"\x7f" * 8),
        (10, b"\0" * 8 + b"\0" * 100),
        (10, b"\x7f" * 9),
    ],
)
def test_damaged_times_are_refused(code: int, payload: bytes) -> None:
    data = msgpack.packb(msgpack.ExtType(code, payload))
    with pytest.raises(StateError, match="cannot be read"):
        unpack(data)


def test_nan_comes_back_as_nan() -> None:
    assert math.isnan(unpack(pack(math.nan)))
    assert unpack(pack(Decimal("NaN"))).is_nan()
    assert same(unpack(pack([bytearray(b"a"), memoryview(b"b")])), [b"a", b"b"])


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        Colour.RED,
        Text("a"),
        print,
        1j,
        time(1, tzinfo=UTC),
        "\ud800",
        {"a": {1}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_are_refused_and_named(value: object) -> None:
    with pytest.raises(RecordError, match="a value cannot be stored"):
        pack(value)


def _nested(depth: int, wrap: Callable[[object], object]) -> object:
    value: object = 0
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: dict[str, Callable[[object], object]] = {
    "list": lambda value: [value],
    "list-with-much-text": lambda value: ["x" * 2_000, value],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"a": value},
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_has_a_limit(wrap: Callable[[object], object]) -> None:
    deepest = _nested(MAX_DEPTH, wrap)
    assert same(unpack(pack(deepest)), deepest)
    for depth in (MAX_DEPTH + 1, 600, 20_000):
        with pytest.raises(RecordError):
            pack(_nested(depth, wrap))


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * (MAX_DEPTH + 1) + b"\x00",
        b"\x91" * 5_000 + b"\x00",
        b"\xc7\xff\x07" * 5_000,
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=["one-too-deep", "deep", "deep-tuples", "long-array"],
)
def test_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        unpack(data)


def test_size_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.core.serde.MAX_PACKED_BYTES", 100)
    assert unpack(pack(b"x" * 90)) == b"x" * 90
    with pytest.raises(RecordError, match="more than 100"):
        pack(b"x" * 101)
    with pytest.raises(StateError, match="more than 100"):
        unpack(b"\x00" * 101)


@pytest.mark.parametrize("code", [0, 11, 42, 127, -2, -128])
def test_unknown_extension_types_are_refused(code: int) -> None:
    four_bytes = b"\xd6" + code.to_bytes(1, signed=True)
    with pytest.raises(StateError, match="cannot be read"):
        unpack(four_bytes + b"abcd")


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x01\x02", b"\x81\x90\x01", b"cos\nsystem\n(S'true'\ntR.", b"\xa1\xff"]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="restore from a checkpoint"):
        unpack(data)


PLAIN = (
    type(None),
    bool,
    int,
    float,
    str,
    bytes,
    list,
    tuple,
    dict,
    datetime,
    date,
    time,
    timedelta,
    Decimal,
    UUID,
)


def _mutants(seeds: list[bytes], count: int) -> list[bytes]:
    randomness = random.Random(7)
    mutants: list[bytes] = []
    for _ in range(count):
        data = bytearray(randomness.choice(seeds))
        for _ in range(randomness.randint(1, 4)):
            place = randomness.randrange(len(data) + 1)
            match randomness.randrange(4):
                case 0 if place < len(data):
                    data[place] = randomness.randrange(256)
                case 1:
                    data[place:place] = randomness.randbytes(randomness.randint(1, 5))
                case 2:
                    del data[place : place + randomness.randint(1, 5)]
                case _:
                    other = randomness.choice(seeds)
                    data[place:] = other[randomness.randrange(len(other)) :]
        mutants.append(bytes(data))
    return mutants


def test_ten_thousand_mutated_values_raise_only_what_is_declared() -> None:
    seeds = [pack(value) for value, _ in GOLDEN]
    seeds += [pack({"a": [(1, time(5), timedelta(1)), {"b": 2**90}], (1, 2): -1.5, "c": "text" * 10})]
    refused = 0
    for data in _mutants(seeds, 10_000):
        try:
            value = unpack(data)
        except StateError:
            refused += 1
        else:
            assert isinstance(value, PLAIN)
    assert 2_000 < refused < 10_000


FRAME = pl.DataFrame(
    {
        "k": ["a", None, "a longer text that does not fit inline"],
        "n": [1, None, 3],
        "t": [datetime(2013, 1, 1, tzinfo=UTC), None, None],
        "l": [[1], None, []],
        "s": [{"x": 1}, None, {"x": 2}],
        "d": [Decimal("1.5"), None, None],
        "b": [b"\x00", b"", None],
    },
).with_columns(pl.col("k").cast(pl.Categorical).alias("c"), pl.lit("u").cast(pl.Enum(["u"])).alias("e"))


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_frames_come_back_as_they_were(compression: str) -> None:
    for frame in (FRAME, FRAME.clear(), FRAME.slice(1, 1), pl.DataFrame()):
        assert_frame_equal(ipc_to_frame(frame_to_ipc(frame, compression)), frame)  # type: ignore[arg-type]


def test_a_slice_takes_the_room_of_a_slice() -> None:
    frame = pl.DataFrame({"k": [f"a text that is kept outside of the view {i}" for i in range(10_000)]})
    assert len(frame_to_ipc(frame.slice(0, 10), "uncompressed")) < 3_000


def test_every_changed_byte_of_a_frame_is_noticed() -> None:
    data = frame_to_ipc(FRAME)
    for place in range(len(data)):
        with pytest.raises(StateError):
            ipc_to_frame(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])


def test_ten_thousand_mutated_frames_are_all_refused() -> None:
    data = frame_to_ipc(FRAME.select("k", "n"))
    for mutant in _mutants([data], 10_000):
        if mutant != data:
            with pytest.raises(StateError):
                ipc_to_frame(mutant)


def test_objects_cannot_be_stored_as_a_frame() -> None:
    with pytest.raises(StateError, match="pack them first"):
        frame_to_ipc(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


@pytest.mark.parametrize(
    "dtype", [pl.Array(pl.Int8, 0), pl.List(pl.Struct({"a": pl.Array(pl.Int8, (2, 0))}))]
)
def test_a_frame_that_could_not_be_read_again_is_not_stored(dtype: pl.DataType) -> None:
    with pytest.raises(StateError, match="column 'a' holds arrays of no values and cannot be stored"):
        frame_to_ipc(pl.DataFrame(schema={"n": pl.Int64, "a": dtype}))
