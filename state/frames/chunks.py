"""Chunks: frames of panes in the backend as sealed Arrow IPC, each under its pane and number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import polars as pl

from streamflow.core.serde import frame_to_ipc, ipc_to_frame
from streamflow.errors import StateError, Where
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress

__all__ = ["Chunk", "Chunks", "chunk_runs", "chunks_with"]

_CHUNK_BYTES: Final = 1 << 20
_LOOKED_UP_BYTES: Final = 1 << 15
"""The size of chunks that are read for a few keys."""
_GROUP: Final = 0
"""The key group of all chunks, which hold keys of all groups: a reader of some groups filters the rows."""
_HIGHEST: Final = 2**64 - 1


class Chunk(NamedTuple):
    """The facts about a chunk: bytes in the backend, bytes and rows in memory, the least and the greatest hash of
    its keys."""

    number: int
    stored: int
    size: int
    rows: int
    low: int = 0
    high: int = _HIGHEST


class Chunks:
    """The chunks of one operator's panes in one backend."""

    def __init__(self, backend: KeyedStateBackend, address: StateAddress) -> None:
        self._backend = backend
        self._address = address

    def write(
        self, pane: int, first: int, frame: pl.DataFrame, size: int, hashes: pl.Series | None = None
    ) -> Iterator[Chunk]:
        """Store a frame of `size` bytes in chunks numbered from `first`: of about a megabyte, or of 32 KiB for a frame
        that is sorted by the hashes of its keys.

        Each by itself: many megabytes in one write would hold the interpreter for long.
        """
        nbytes = _CHUNK_BYTES if hashes is None else _LOOKED_UP_BYTES
        step = max(1, frame.height * nbytes // max(1, size))
        for number, start in enumerate(range(0, max(1, frame.height), step), first):
            part = frame.slice(start, step)
            data = frame_to_ipc(part)
            self._backend.put(self._address, _GROUP, _key(pane, number), data)
            bounds = (
                () if hashes is None or not part.height else (hashes[start], hashes[start + part.height - 1])
            )
            yield Chunk(number, len(data), size * part.height // max(1, frame.height), part.height, *bounds)

    def read(self, pane: int, chunks: Iterable[Chunk]) -> Iterator[pl.DataFrame]:
        """The frames of chunks, one after the other. Raises StateError if one is missing or damaged."""
        for chunk in chunks:
            data = self._backend.get(self._address, _GROUP, _key(pane, chunk.number))
            if data is None:
                raise StateError(
                    f"chunk {chunk.number} of pane {pane} is missing from the state backend",
                    where=Where(operator=self._address.operator),
                    hint="restore from a checkpoint",
                )
            yield ipc_to_frame(data)

    def drop(self, pane: int, chunks: Iterable[Chunk]) -> None:
        """Removes chunks."""
        self._backend.write(self._address, [(_GROUP, _key(pane, chunk.number), None) for chunk in chunks])


def chunk_runs(chunks: Sequence[Chunk]) -> int:
    """The number of times chunks in writing order begin again with low hashes: at most so many hold one key.

    >>> chunk_runs([Chunk(0, 1, 1, 1, 3, 5), Chunk(1, 1, 1, 1, 6, 9), Chunk(2, 1, 1, 1, 2, 7)])
    2
    """
    return sum(not number or chunk.low < chunks[number - 1].high for number, chunk in enumerate(chunks))


def chunks_with(chunks: Sequence[Chunk], hashes: Sequence[int]) -> list[Chunk]:
    """The chunks in which keys with one of these hashes (ascending) may be."""
    return [
        chunk
        for chunk in chunks
        if (at := bisect_left(hashes, chunk.low)) < len(hashes) and hashes[at] <= chunk.high
    ]


def _key(pane: int, number: int) -> bytes:
    """The key of a chunk: eight bytes for the pane and four for the number, in byte order, negative panes included."""
    return (pane + (1 << 63)).to_bytes(8, "big") + number.to_bytes(4, "big")
