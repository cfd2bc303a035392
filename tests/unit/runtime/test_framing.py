"""Frames: bodies come back whatever the pieces, and a length above the limit is refused before anything is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.runtime.control.framing import Frames, ProtocolError, framed


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_bodies_come_back_whatever_the_pieces(bodies: list[bytes], sizes: list[int]) -> None:
    sent = b"".join(part for body in bodies for part in framed(body))
    frames, found, at, turn = Frames(limit=40), [], 0, 0
    while at < len(sent):
        size = sizes[turn % len(sizes)]
        found += frames.feed(sent[at : at + size])
        at, turn = at + size, turn + 1
    assert found == bodies
    assert frames.whole


def test_an_end_within_a_frame_is_told_from_one_between_two() -> None:
    head, body = framed(b"abc")
    for cut in (head[:2], head, head + body[:1]):
        frames = Frames()
        assert frames.feed(cut) == []
        assert not frames.whole


def test_a_length_above_the_limit_is_refused_with_the_header_alone() -> None:
    frames = Frames(limit=4)
    with pytest.raises(ProtocolError, match="takes 5 bytes, and may take 4"):
        frames.feed(b"\x00\x00\x00\x01a\x00\x00\x00\x05")
    with pytest.raises(ProtocolError):
        framed(b"12345", limit=4)
    with pytest.raises(ProtocolError):
        Frames().feed(b"\xff\xff\xff\xff")


def test_the_limit_may_grow_once_the_other_end_is_known() -> None:
    frames = Frames(limit=1)
    assert frames.feed(b"\x00\x00\x00\x01a") == [b"a"]
    frames.limit = 3
    assert frames.feed(b"\x00\x00\x00\x03abc") == [b"abc"]
