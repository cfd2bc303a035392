"""Laws of frames between workers: rows come as they were, and frames are cut wherever their bytes are parted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.core.batch import RowBatch
from streamflow.runtime.transport.cutting import Cutter
from streamflow.runtime.transport.frames import Decoder, Encoder, head
from streamflow.runtime.transport.port import TransportError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=3,
)
numbers = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(values, numbers, numbers)), st.booleans(), st.booleans())
def test_rows_come_as_they_were(records, timed, marked) -> None:
    rows = RowBatch(
        [value for value, _, _ in records],
        [at for _, at, _ in records] if timed else None,
        [mark for _, _, mark in records] if marked else None,
    )
    [frame] = Encoder(most=1 << 20).frames(rows)
    assert Decoder().element(frame.kind, memoryview(frame.body)) == rows


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 200_000)), max_size=6),
    st.lists(st.integers(1, 100_000), min_size=1),
)
def test_frames_are_cut_wherever_the_bytes_are_parted(frames, parts) -> None:
    bodies = [bytes([kind]) * length for kind, length in frames]
    stream = b"".join(head(kind, len(body)) + body for (kind, _), body in zip(frames, bodies, strict=True))
    cutter, found, at, turn = Cutter(most=200_000), [], 0, 0
    while at < len(stream):
        room = cutter.room()
        count = min(len(room), parts[turn % len(parts)], len(stream) - at)
        room[:count] = stream[at : at + count]
        cutter.came(count)
        at, turn = at + count, turn + 1
        while (frame := cutter.next()) is not None:
            found.append((frame[0], bytes(frame[1])))
    assert found == [(kind, body) for (kind, _), body in zip(frames, bodies, strict=True)]


def test_a_frame_that_is_too_long_is_refused_by_its_head() -> None:
    cutter = Cutter(most=1_000)
    cutter.room()[:5] = head(3, 1_001)
    cutter.came(5)
    with pytest.raises(TransportError, match="1001 bytes came, more than 1000"):
        cutter.next()
