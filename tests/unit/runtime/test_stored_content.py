"""The content of a checkpoint's packed files is checked by type before any of it is used."""

from __future__ import annotations

from typing import Any

import pytest

from streamflow.core.serde import pack
from streamflow.errors import DamagedError, StateError
from streamflow.runtime.checkpoints.snapshots import described
from streamflow.runtime.checkpoints.stored_content import JobContent, SourceContent, content_of

SPLIT = {
    "id": "a",
    "payload": {"path": "a.csv"},
    "holds_watermark": True,
    "order": 0,
    "position": {"row": 3},
    "watermark": -(2**63),
}


def test_what_fits_comes_back_as_it_was() -> None:
    saved = {"splits": [SPLIT], "watermark": 7}
    assert content_of(pack(saved), SourceContent, "source.msgpack") == saved
    job = {
        "sources": {"read-1": {"splits": [], "final": True, "enumerator": {"done": True}}},
        "line": "run-1",
        "sinks": {"write-1": ["FileSink", "write-1"]},
        "notes": {},
        "sealed": [["write-1", {"name": "part-0", "chunks": [b"x"]}]],
    }
    content = content_of(pack(job), JobContent, "job.msgpack")
    assert content.get("sinks") == {"write-1": ("FileSink", "write-1")}
    assert content.get("sealed") == [("write-1", {"name": "part-0", "chunks": [b"x"]})]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {"splits": [SPLIT]},
        {"splits": [SPLIT], "watermark": "7"},
        {"splits": [SPLIT], "watermark": 2**63},
        {"splits": [{**SPLIT, "order": -1}], "watermark": 7},
        {"splits": [{**SPLIT, "position": 3}], "watermark": 7},
        {"splits": [{**SPLIT, "holds_watermark": 1}], "watermark": 7},
        {"splits": {"a": SPLIT}, "watermark": 7},
    ],
)
def test_another_content_is_refused_by_the_name_of_its_file(wrong: Any) -> None:
    with pytest.raises(
        DamagedError, match=r"source\.msgpack has another content.*restore another checkpoint"
    ):
        content_of(pack(wrong), SourceContent, "source.msgpack")


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, pack({"values": {}})]
)
def test_damaged_values_of_an_operator_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        described(data)
