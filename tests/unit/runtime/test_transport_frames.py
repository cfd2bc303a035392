"""Elements as frames and back: each comes as it was, in pieces that are not too large, with its own rows only."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.elements import End, StreamElement, Watermark
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE
from streamflow.errors import RecordError
from streamflow.runtime.transport import columns
from streamflow.runtime.transport.frames import Decoder, Encoder, Frame

MOST = 4 << 20
COLUMNS = {
    "text": ["a", None, "longer than twelve bytes", ""],
    "bytes": [b"a", b"", None, b"longer than twelve bytes"],
    "at": [datetime(2013, 1, 1, tzinfo=UTC), None] * 2,
    "day": [date(2013, 1, 1), None] * 2,
    "time": [time(1, 2), None] * 2,
    "for": [timedelta(days=1), None] * 2,
    "price": [Decimal("1.25"), None] * 2,
    "list": [["a", None], [], None, ["b"]],
    "struct": [{"x": 1, "y": "z"}, None] * 2,
    "nothing": [None] * 4,
    "yes": [True, None] * 2,
}
OTHER_TYPES = {
    "category": pl.Series(["x", None] * 2, dtype=pl.Categorical),
    "enum": pl.Series(["x", None] * 2, dtype=pl.Enum(["x", "y"])),
    "large": pl.Series([2**100, None] * 2, dtype=pl.Int128),
    "categories": pl.Series([["x"], None] * 2, dtype=pl.List(pl.Categorical)),
}


@pytest.fixture(params=["pyarrow", "polars"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Columns are sent with pyarrow, and without it."""
    if request.param == "polars":
        monkeypatch.setattr(columns, "pyarrow", lambda: None)
    return request.param


def sent(elements: list[StreamElement], *, most: int = MOST, **encoding) -> tuple[list[Any], list[Frame]]:
    """The elements that arrive, and the frames that brought them."""
    encoder, decoder = Encoder(most=most, **encoding), Decoder()
    arrived: list[StreamElement] = []
    frames: list[Frame] = []
    told = None
    for element in elements:
        for frame in encoder.frames(element):
            frames.append(frame)
            if frame.schema is not None and frame.schema != told:
                told = frame.schema
                assert decoder.element(1, memoryview(told)) is None
            assert len(frame.body) <= most
            found = decoder.element(frame.kind, memoryview(bytes(frame.body)))
            if found is not None:
                arrived.append(found)
    return arrived, frames


def joined(elements: list[Any]) -> pl.DataFrame:
    return pl.concat([batch.frame for batch in elements])


@pytest.mark.parametrize("times", [1, 400])
@pytest.mark.parametrize("more", [{}, *({name: series} for name, series in OTHER_TYPES.items())])
@pytest.mark.parametrize("lz4", [False, True])
def test_columns_of_every_type_come_as_they_were(times, more, lz4) -> None:
    frame = pl.concat([pl.DataFrame(COLUMNS).with_columns(**more)] * times, rechunk=False)
    [arrived], _ = sent([FrameBatch(frame)], lz4=lz4)
    assert arrived.frame.schema == frame.schema
    assert arrived.frame.equals(frame)


@pytest.mark.parametrize("times", [1, 400])
def test_columns_of_any_name_come_as_they_were(times) -> None:
    """A zero byte ends a name in C, through which pyarrow takes columns."""
    frame = pl.DataFrame({"": [1, 2], "\0": [3, 4], "ü\n": [{"in\0side": 5, "": "x"}, None]})
    frame = pl.concat([frame] * times)
    [arrived], _ = sent([FrameBatch(frame)])
    assert arrived.frame.schema == frame.schema
    assert arrived.frame.equals(frame)


def test_a_frame_without_columns_keeps_its_rows() -> None:
    [arrived], _ = sent([FrameBatch(pl.DataFrame(height=5))])
    assert arrived.frame.shape == (5, 0)


def test_an_empty_frame_keeps_its_columns() -> None:
    frame = pl.DataFrame(COLUMNS).clear()
    [arrived], _ = sent([FrameBatch(frame)])
    assert arrived.frame.schema == frame.schema


def test_the_schema_is_told_once_and_when_it_changes(library) -> None:
    one, other = pl.DataFrame({"n": range(5_000)}), pl.DataFrame({"m": range(5_000)})
    arrived, frames = sent([FrameBatch(frame) for frame in (one, one, other, one)])
    assert [batch.frame.columns for batch in arrived] == [["n"], ["n"], ["m"], ["n"]]
    schemas = [frame.schema for frame in frames]
    if library == "pyarrow":
        assert schemas[0] is schemas[1] != schemas[2]
    else:
        assert schemas == [None] * 4


@pytest.mark.parametrize("rows", [300, 8_000, 60_000])
@pytest.mark.parametrize("share", [2, 16])
@pytest.mark.parametrize("text", ["u", "a user's name, which is long: "])
def test_a_part_of_a_batch_takes_its_own_rows_along_and_no_others(rows, share, text) -> None:
    """Strings of what was filtered share buffers with all rows there were."""
    n = pl.int_range(rows * share, eager=True)
    whole = pl.DataFrame(
        {"user": text + (n * 7_919 % 10_000).cast(pl.String), "n": n, "x": n.cast(pl.Float64)}
    )
    whole = whole.with_columns(pl.Series(EVENT_TIME, n).cast(EVENT_TIME_TYPE))
    part = whole.filter(pl.col("n") % share == 0)
    arrived, frames = sent([FrameBatch(part)])
    assert joined(arrived).equals(part)
    taken = part.estimated_size() + 16 * part.height  # Polars counts strings without their views
    told = sum(len(schema) for schema in {frame.schema for frame in frames if frame.schema})
    assert sum(len(frame.body) for frame in frames) + told <= 1.2 * taken + 2_000


def test_a_large_batch_comes_in_pieces(library) -> None:
    frame = pl.DataFrame({"n": range(100_000), "text": ["some text that takes its room"] * 100_000})
    rows = RowBatch([{"text": "x" * (n % 1_000)} for n in range(5_000)], range(5_000), range(5_000))
    for batch in (FrameBatch(frame), rows):
        arrived, frames = sent([batch], most=300_000)
        assert len(frames) > 5
        if isinstance(batch, FrameBatch):
            assert joined(arrived).equals(frame)
        else:
            for column in ("values", "times", "marks"):
                assert [each for part in arrived for each in getattr(part, column)] == list(
                    getattr(rows, column)
                )


def test_rows_of_unequal_size_are_divided_until_they_fit() -> None:
    rows = RowBatch(["x" * 90_000, "", "", *["y" * 40_000] * 4])
    arrived, _ = sent([rows], most=100_000)
    assert [value for part in arrived for value in part.values] == rows.values


def test_a_single_record_that_is_too_large_names_the_operator() -> None:
    for batch in (RowBatch(["x" * 200_000]), FrameBatch(pl.DataFrame({"text": ["x" * 200_000]}))):
        with pytest.raises(RecordError, match=r"operator map-1: a record takes .* raise channel_bytes"):
            sent([RowBatch([1]), batch], most=100_000, operator="map-1")


def test_a_value_that_msgpack_does_not_take_names_the_operator() -> None:
    with pytest.raises(RecordError) as raised:
        sent([RowBatch([1, {2, 3}])], operator="map-1")
    message = str(raised.value)
    assert message.startswith(
        "operator map-1: a record cannot be sent to another process: it holds a builtins.set"
    )
    assert "run the job in one process" in message
    assert raised.value.record == "{2, 3}"


@pytest.mark.parametrize(
    ("column", "held"),
    [
        (pl.Series([object()], dtype=pl.Object), "Python objects"),
        (pl.Series([[]], dtype=pl.Array(pl.Int8, 0)), "arrays of no values"),
        (
            pl.Series([[{"a": []}]], dtype=pl.List(pl.Struct({"a": pl.Array(pl.Int8, 0)}))),
            "arrays of no values",
        ),
    ],
)
def test_a_column_that_cannot_be_sent_names_the_operator(column, held) -> None:
    with pytest.raises(RecordError, match=f"operator map-1: column 'own' holds {held}"):
        sent([FrameBatch(pl.DataFrame({"own": column}))], operator="map-1")


@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_the_times_of_an_end_come_all_in_order(count) -> None:
    times = pl.Series("t", range(count), dtype=pl.Int64)
    [arrived], _ = sent([Watermark(2**63 - 1, End(5, 4, times))], most=200_000)
    assert arrived == Watermark(2**63 - 1, End(5, 4))
    assert arrived.end.times.equals(times)
    assert arrived.end.times.dtype == pl.Int64


def test_an_end_without_times_has_none() -> None:
    [first, second], _ = sent([Watermark(1, End(5, 4, pl.Series([1]))), Watermark(1, End())])
    assert first.end.times is not None
    assert second.end.times is None
