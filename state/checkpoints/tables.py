"""Tables of rows by key as bytes: each (pane, frame) as a length, the pane and a sealed Arrow IPC stream, in order.

A frame may be in a file of its own: the table then has the name of the file in its place. So large frames that stay
the same from one checkpoint to the next are stored once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import polars as pl

from streamflow.core.serde import frame_to_ipc, ipc_to_frame
from streamflow.errors import StateError
from streamflow.state.operator_snapshot import Table

__all__ = ["decode_table", "encode_table"]

_MAGIC: Final = b"SFT1"
_MAGIC_APART: Final = b"SFT2"
_ENTRY: Final = struct.Struct(">qQ")
_APART: Final = 1 << 63
"""Added to the length of a file's name."""
_END: Final = struct.Struct(">Q")
_END_MARK: Final = b"SFTE"


def encode_table(table: Table, apart: Mapping[int, str] | None = None) -> Iterator[bytes]:
    """The table's bytes, piece by piece; takes about a millisecond a megabyte. `apart`: the files of frames that are
    stored by themselves, by the places of the frames.

    >>> frame = pl.DataFrame({"k": ["JFK"], "n": [3]})
    >>> [(pane, frame.rows()) for pane, frame in decode_table(b"".join(encode_table([(7, frame)])))]
    [(7, [('JFK', 3)])]
    """
    apart = apart or {}
    yield _MAGIC_APART if apart else _MAGIC
    for place, (pane, frame) in enumerate(table):
        name = apart.get(place)
        if name is None:
            sealed = frame_to_ipc(frame)
            yield _ENTRY.pack(pane, len(sealed))
            yield sealed
        else:
            encoded = name.encode("ascii")
            yield _ENTRY.pack(pane, _APART + len(encoded))
            yield encoded
    yield _END_MARK + _END.pack(len(table))


def _no_files(name: str) -> bytes:
    raise StateError(f"a stored table is damaged: it has no file {name!r}")


def decode_table(data: bytes, read: Callable[[str], bytes] = _no_files) -> list[tuple[int, pl.DataFrame]]:
    """The table that `encode_table` made these bytes of; raises StateError for any other bytes. `read` gives the
    content of the file of a frame that is apart."""
    view, end = memoryview(data), len(data) - len(_END_MARK) - _END.size
    known = data.startswith((_MAGIC, _MAGIC_APART))
    if end < len(_MAGIC) or not known or not data.startswith(_END_MARK, end):
        raise StateError("a stored table is damaged: it has no beginning or no end")
    may_be_apart = data.startswith(_MAGIC_APART)
    table: list[tuple[int, pl.DataFrame]] = []
    at = len(_MAGIC)
    while at < end:
        if at + _ENTRY.size > end:
            raise StateError("a stored table is damaged: a part is cut off")
        pane, length = _ENTRY.unpack_from(view, at)
        apart = may_be_apart and length >= _APART
        length -= _APART if apart else 0
        at += _ENTRY.size
        if length > end - at:
            raise StateError("a stored table is damaged: a part is cut off")
        content = bytes(view[at : at + length])
        table.append((pane, ipc_to_frame(read(content.decode("ascii", "replace")) if apart else content)))
        at += length
    if _END.unpack_from(view, end + len(_END_MARK))[0] != len(table):
        raise StateError("a stored table is damaged: parts are missing")
    return table
