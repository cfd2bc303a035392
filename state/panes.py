"""The panes of a window operator: per pane a frame of partial aggregates, hot in memory, cold in the backend.

A pane is named by an integer (the start of its slice or window). Appending is cheap: a pane collects partials and
merges them when what is unmerged outgrows what is merged, as a log-structured merge tree does, so each row is merged
about a constant number of times. When all panes together exceed the memory budget, the ones appended to least
recently are merged and spilled to the backend as sealed Arrow IPC, in chunks; a pane that goes on growing spills in
several runs, and reading merges them. The order of appending is kept, for aggregates like first and last.

`merge` turns the concatenation of frames into one and must be associative; column types may widen from one frame to
the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from streamflow.errors import StateError, Where
from streamflow.records.serde import frame_to_ipc, ipc_to_frame
from streamflow.state.backend import KeyedStateBackend, StateAddress
from streamflow.state.owned_keys import OwnedKeys
from streamflow.state.parts import OperatorSnapshot, StatePart

__all__ = ["PaneStore"]

_MERGE_ROWS: Final = 32_768
_MERGE_PARTIALS: Final = 256
_CHUNK_BYTES: Final = 1 << 20
_FRAME_BYTES: Final = 400
_VIEW_BYTES: Final = 16
_SPILL_TO: Final = 0.9
_WORTH_MERGING: Final = 0.5
_GROUP: Final = 0


@dataclass(slots=True)
class _Pane:
    """What one pane has in memory (`partials`, the first of them merged) and in the backend (`chunks`)."""

    partials: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    merged_rows: int = 0
    pending_rows: int = 0
    nbytes: int = 0
    chunks: list[int] = field(default_factory=list[int])
    spilled_rows: int = 0
    next_chunk: int = 0


class PaneStore:
    """Frames of partial aggregates by pane, within `memory_budget` bytes.

    Appending costs a few microseconds, merges and spills aside. The budget bounds what is kept between calls; a call
    takes about twice the largest pane more while it merges. Raises KeyError for a pane that is not there, StateError
    where the backend fails.

    >>> from streamflow.state.memory import MemoryBackend
    >>> keys = OwnedKeys(("k",), range(128), 128)
    >>> store = PaneStore(MemoryBackend(), "window-1", lambda f: f.group_by("k").agg(pl.col("n").sum()), 1 << 20, keys)
    >>> store.append(0, pl.DataFrame({"k": ["a"], "n": [1]}))
    >>> store.append(0, pl.DataFrame({"k": ["a"], "n": [2]}))
    >>> store.panes(), store.read(0).rows()
    ((0,), [('a', 3)])
    """

    def __init__(
        self,
        backend: KeyedStateBackend,
        operator_id: str,
        merge: Callable[[pl.DataFrame], pl.DataFrame],
        memory_budget: int,
        keys: OwnedKeys,
        *,
        state: str = "panes",
    ) -> None:
        if memory_budget <= 0:
            raise StateError(
                f"the memory budget for panes is {memory_budget} bytes", hint="give at least some megabytes"
            )
        self._backend = backend
        self._address = StateAddress(operator_id, state)
        self._merge = merge
        self._budget = memory_budget
        self._keys = keys
        self._panes: dict[int, _Pane] = {}
        # The panes with anything in memory, coldest first.
        self._resident: OrderedDict[int, _Pane] = OrderedDict()
        self._ascending: tuple[int, ...] | None = ()
        self._nbytes = 0
        self._rows = 0
        self._spilled = 0
        self._row_overhead: dict[int, int] = {}

    @property
    def rows(self) -> int:
        """Rows in all panes, in memory and spilled; rows of one key in two partials count twice."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Estimated bytes in memory."""
        return self._nbytes

    @property
    def spilled(self) -> int:
        """Bytes in the backend."""
        return self._spilled

    def __len__(self) -> int:
        return len(self._panes)

    def __contains__(self, pane: object) -> bool:
        return pane in self._panes

    def panes(self) -> tuple[int, ...]:
        """All panes, ascending."""
        if self._ascending is None:
            self._ascending = tuple(sorted(self._panes))
        return self._ascending

    def append(self, pane: int, frame: pl.DataFrame) -> None:
        """Add partial aggregates to a pane, which is made if it is not there. The frame is kept, not copied."""
        if not frame.height and pane in self._panes:
            return
        content = self._add(pane, frame)
        content.pending_rows += frame.height
        if (
            content.pending_rows > max(_MERGE_ROWS, content.merged_rows)
            or len(content.partials) > _MERGE_PARTIALS
        ):
            self._merge_resident(content)
        if self._nbytes > self._budget:
            self._make_room()

    def read(self, pane: int) -> pl.DataFrame:
        """The merged frame of a pane. Stays in memory only if the pane was there anyway."""
        content = self._panes[pane]
        if not content.chunks:
            self._merge_resident(content)
            return content.partials[0]
        return self._merge_spilled(pane, content)

    def replace(self, pane: int, frame: pl.DataFrame) -> None:
        """Make the merged `frame` the whole content of a pane."""
        if pane in self._panes:
            self.drop(pane)
        content = self._add(pane, frame)
        content.merged_rows = frame.height
        if self._nbytes > self._budget:
            self._make_room()

    def drop(self, pane: int) -> None:
        """Forget a pane."""
        content = self._panes.pop(pane)
        self._ascending = None
        self._resident.pop(pane, None)
        self._nbytes -= content.nbytes
        self._rows -= _rows_of(content)
        if content.chunks:
            self._spilled -= sum(content.chunks)
            self._backend.write(
                self._address,
                [(_GROUP, _chunk_key(pane, number), None) for number in range(content.next_chunk)],
            )

    def clear(self) -> None:
        """Forget all panes."""
        for pane in self.panes():
            self.drop(pane)

    def snapshot(self) -> OperatorSnapshot:
        """What is in memory, and which chunks there are in the backend; under the state's name."""
        index = [[pane, content.chunks.copy(), content.spilled_rows] for pane, content in self._panes.items()]
        table = [(pane, frame) for pane in self.panes() for frame in self._panes[pane].partials]
        name = self._address.state
        return OperatorSnapshot({name: index}, {name: table}, self._keys.columns)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Take back what the snapshots hold of the own keys. At most one chunk is loaded at a time."""
        name = self._address.state
        for part in parts:
            for pane, chunks, rows in part.values.get(name, ()):
                if part.adopted:
                    self._adopt(pane, list(chunks), rows)
                else:
                    self._copy(pane, len(chunks), part)
        for pane, frame in self._keys.restored(parts, name):
            self.append(pane, frame)

    # In memory.

    def _add(self, pane: int, frame: pl.DataFrame) -> _Pane:
        content = self._panes.get(pane)
        if content is None:
            content = self._panes[pane] = _Pane()
            self._ascending = None
        size = self._size(frame)
        content.partials.append(frame)
        content.nbytes += size
        self._nbytes += size
        self._rows += frame.height
        self._resident[pane] = content
        self._resident.move_to_end(pane)
        return content

    def _size(self, frame: pl.DataFrame) -> int:
        """An estimate; Polars' own leaves out the 16 bytes that each text or binary value takes beside its
        content."""
        width = frame.width
        overhead = self._row_overhead.get(width)
        if overhead is None:
            views = sum(isinstance(dtype, (pl.String, pl.Binary)) for dtype in frame.dtypes)
            overhead = self._row_overhead[width] = _VIEW_BYTES * views
        return int(frame.estimated_size()) + overhead * frame.height + _FRAME_BYTES * width

    def _merge_resident(self, content: _Pane) -> None:
        """Leave one merged frame in memory."""
        if not content.pending_rows and len(content.partials) == 1:
            return
        merged = self._merged(content.partials)
        size = self._size(merged)
        self._nbytes += size - content.nbytes
        self._rows += merged.height - sum(partial.height for partial in content.partials)
        content.partials, content.nbytes = [merged], size
        content.merged_rows, content.pending_rows = merged.height, 0

    def _merged(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        whole = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
        return self._merge(whole)

    # In the backend.

    def _make_room(self) -> None:
        """Merge, and where that does not help spill, the coldest panes first, until there is some room.

        Not just enough room: a spill for each append would be slow.
        """
        wanted = self._budget * _SPILL_TO
        for content in list(self._resident.values()):
            before = content.nbytes
            self._merge_resident(content)
            if self._nbytes <= wanted:
                return
            if content.nbytes > before * _WORTH_MERGING:
                break
        while self._nbytes > wanted and self._resident:
            pane, content = next(iter(self._resident.items()))
            self._merge_resident(content)
            self._spill(pane, content)

    def _spill(self, pane: int, content: _Pane) -> None:
        frame = content.partials[0]
        step = max(1, frame.height * _CHUNK_BYTES // max(1, content.nbytes))
        for start in range(0, max(1, frame.height), step):
            data = frame_to_ipc(frame.slice(start, step))
            # Each chunk by itself: many megabytes in one write would hold the interpreter for long.
            self._backend.put(self._address, _GROUP, _chunk_key(pane, content.next_chunk), data)
            content.next_chunk += 1
            content.chunks.append(len(data))
            self._spilled += len(data)
        content.spilled_rows += frame.height
        self._nbytes -= content.nbytes
        content.partials, content.nbytes, content.merged_rows, content.pending_rows = [], 0, 0, 0
        del self._resident[pane]

    def _adopt(self, pane: int, chunks: list[int], rows: int) -> None:
        """The chunks of a pane are in the backend already."""
        if chunks:
            self._panes[pane] = _Pane(chunks=chunks, spilled_rows=rows, next_chunk=len(chunks))
            self._ascending = None
            self._spilled += sum(chunks)
            self._rows += rows

    def _copy(self, pane: int, chunks: int, part: StatePart) -> None:
        """Append the own rows of a pane's chunks in another subtask's backend."""
        for frame in self._chunks_of(part.backend, pane, chunks):
            own = self._keys.rows(frame)
            if own.height:
                self.append(pane, own)

    def _merge_spilled(self, pane: int, content: _Pane) -> pl.DataFrame:
        """Oldest first, merging on the way, so that the result and one part of its size are all that is in memory."""
        merged_rows, pending_rows = 0, 0
        frames: list[pl.DataFrame] = []
        for frame in self._in_order(pane, content):
            frames.append(frame)
            pending_rows += frame.height
            if pending_rows > max(_MERGE_ROWS, merged_rows):
                frames = [self._merged(frames)]
                merged_rows, pending_rows = frames[0].height, 0
        return self._merged(frames) if pending_rows or len(frames) > 1 else frames[0]

    def _in_order(self, pane: int, content: _Pane) -> Iterable[pl.DataFrame]:
        yield from self._read_chunks(pane, content)
        yield from content.partials

    def _read_chunks(self, pane: int, content: _Pane) -> Iterator[pl.DataFrame]:
        return self._chunks_of(self._backend, pane, content.next_chunk)

    def _chunks_of(self, backend: KeyedStateBackend | None, pane: int, chunks: int) -> Iterator[pl.DataFrame]:
        for number in range(chunks):
            data = None if backend is None else backend.get(self._address, _GROUP, _chunk_key(pane, number))
            if data is None:
                raise StateError(
                    f"chunk {number} of pane {pane} is missing from the state backend",
                    where=Where(operator=self._address.operator),
                    hint="restore from a checkpoint",
                )
            yield ipc_to_frame(data)


def _rows_of(content: _Pane) -> int:
    return content.spilled_rows + sum(partial.height for partial in content.partials)


def _chunk_key(pane: int, number: int) -> bytes:
    """Eight bytes for the pane and four for the chunk, whose byte order is their order, negative panes included."""
    return (pane + (1 << 63)).to_bytes(8, "big") + number.to_bytes(4, "big")
