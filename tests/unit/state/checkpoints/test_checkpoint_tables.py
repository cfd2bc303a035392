"""Tables of an operator's rows come back; other bytes are refused."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from streamflow.core.serde import frame_to_ipc
from streamflow.errors import StateError
from streamflow.state.checkpoints.tables import decode_table, encode_table

TABLE = [(5, pl.DataFrame({"k": ["a", None], "n": [1, 2]})), (-9, pl.DataFrame({"k": ["b"], "n": [2**40]}))]


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            dataframes(max_cols=3, max_size=4, allowed_dtypes=[pl.Int64, pl.String, pl.Float64, pl.Datetime]),
        ),
        max_size=3,
    )
)
def test_a_table_comes_back(table: list[tuple[int, pl.DataFrame]]) -> None:
    back = decode_table(b"".join(encode_table(table)))
    assert [pane for pane, _ in back] == [pane for pane, _ in table]
    for (_, after), (_, before) in zip(back, table, strict=True):
        assert_frame_equal(after, before)


def test_an_empty_table_comes_back() -> None:
    assert decode_table(b"".join(encode_table([]))) == []


@given(st.data())
def test_other_bytes_are_refused(data: st.DataObject) -> None:
    before = b"".join(encode_table(TABLE))
    at = data.draw(st.integers(0, len(before) - 1))
    after = data.draw(
        st.sampled_from(
            [before[:at], before[:at] + b"\xff\xff" + before[at:], before[at:], before + before[:at]]
        )
    )
    if after != before:
        with pytest.raises(StateError):
            decode_table(after)


@given(st.binary(max_size=100))
def test_any_bytes_raise_what_is_declared(data: bytes) -> None:
    end = b"SFTE" + (1).to_bytes(8, "big")
    for each in (data, b"SFT1" + data, b"SFT1" + data + end, b"SFT2" + data + end):
        with pytest.raises(StateError):
            decode_table(each, lambda name: name.encode())


@given(st.sets(st.integers(0, 1)))
def test_frames_may_be_in_files_of_their_own(places: set[int]) -> None:
    names = {place: f"frames/panes/{place}" for place in places}
    files = {name: frame_to_ipc(TABLE[place][1]) for place, name in names.items()}
    data = b"".join(encode_table(TABLE, names))
    back = decode_table(data, files.__getitem__)
    assert [(pane, frame.rows()) for pane, frame in back] == [(pane, frame.rows()) for pane, frame in TABLE]
    if places:
        with pytest.raises(StateError, match="frames/panes"):
            decode_table(data)
