"""The panes of a window operator: per pane a frame of partial aggregates, hot in memory, cold in the backend.

A pane is named by an integer (the start of its slice or window). Appending is cheap: a pane collects partials and
merges them when what is unmerged outgrows what is merged, as a log-structured merge tree does, so each row is merged
about a constant number of times. When all panes together exceed the memory budget, the ones appended to least
recently are merged and spilled to the backend as sealed Arrow IPC, in chunks; a pane that goes on growing spills in
several runs, and reading merges them. The order of appending is kept, for aggregates like first and last.

A large pane is divided by a hash of the keys into parts (a Grace hash join's partitions), which are merged, spilled
and read one by one: however large it is, a slice of it at a time can be worked on within the budget.

`merge` turns the concatenation of frames into one and must be associative; column types may widen from one frame to
the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.errors import StateError
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.frames.key_slices import in_slices, rows_in_slice
from streamflow.state.frames.pane_chunks import Chunk, PaneChunks
from streamflow.state.frames.pane_parts import FrameSizes, Pane, Part
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart, whole

__all__ = ["PaneStore"]

_MERGE_ROWS: Final = 32_768
_MERGE_PARTIALS: Final = 256
_SPILL_TO: Final = 0.9
_WORTH_MERGING: Final = 0.5
_PARTS: Final = 64
"""Into how many parts a large pane is divided; a power of two."""
_SLICES_PER_BUDGET: Final = 8
_LEAST_SLICE: Final = 64 << 10
_DIVIDED_WHEN_SPILLED: Final = 2 << 20
_MOST_SLICES: Final = 1 << 12


class PaneStore:
    """Frames of partial aggregates by pane, within `memory_budget` bytes.

    Appending costs a few microseconds, merges and spills aside. The budget bounds what is kept between calls; a call
    takes about twice the largest part of a pane more while it merges, `read` twice the pane. Raises KeyError for a pane
    that is not there, StateError where the backend fails.

    >>> from streamflow.state.backends.memory import MemoryBackend
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
        self._address = StateAddress(operator_id, state)
        self._chunks = PaneChunks(backend, self._address)
        self._merge = merge
        self._budget = memory_budget
        self._slice_bytes = max(memory_budget // _SLICES_PER_BUDGET, _LEAST_SLICE)
        self._keys = keys
        self._panes: dict[int, Pane] = {}
        # The parts with anything in memory, coldest first.
        self._resident: OrderedDict[tuple[int, int], Part] = OrderedDict()
        self._fronts: dict[int, Pane] = {}
        self._ascending: tuple[int, ...] | None = ()
        self._nbytes = 0
        self._rows = 0
        self._spilled = 0
        self._sizes = FrameSizes()

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

    def rows_in(self, pane: int) -> int:
        """Rows in one pane, counted as `rows` are."""
        return self._panes[pane].rows

    def append(self, pane: int, frame: pl.DataFrame) -> None:
        """Add partial aggregates to a pane, which is made if it is not there. The frame is kept, not copied."""
        if not frame.height and pane in self._panes:
            return
        content = self._pane(pane)
        if len(content.parts) == 1:
            (part,) = content.parts
            if self._add(pane, 0, part, frame) and part.nbytes > self._slice_bytes:
                self._divide(pane, content)
        else:
            self._put_in_front(pane, content, frame)
        if self._nbytes > self._budget:
            self._make_room()

    def read(self, pane: int) -> pl.DataFrame:
        """The merged frame of a pane. Stays in memory only if the pane was there anyway."""
        whole = self.read_slice(pane, 0, 1)
        assert whole is not None
        return whole

    def share(self, pane: int) -> float:
        """How much of what can well be worked on at a time a pane is: with more than 1 it should be read in slices."""
        return self._panes[pane].size / self._slice_bytes

    def slices(self, panes: Iterable[int]) -> int:
        """Into how many slices to divide these panes so that a slice of all of them is no large part of the budget."""
        share = sum(self.share(pane) for pane in panes)
        count = 1
        while count < _MOST_SLICES and count < share:
            count *= 2
        return count

    def read_slice(self, pane: int, number: int, slices: int) -> pl.DataFrame | None:
        """The merged rows of a pane whose keys are in one of so many slices (a power of two); None if there are none.

        The same keys are in the same slice in all panes.
        """
        content = self._panes[pane]
        self._divide_front(pane, content)
        parts = len(content.parts)
        # Where there are fewer slices than parts, each is several parts; where there are more, a piece of one.
        chosen = [part for at, part in enumerate(content.parts) if at % slices == number % parts]
        frames = [self._content(pane, part) for part in chosen if part.partials or part.chunks]
        if slices > parts:
            frames = [rows_in_slice(frame, self._keys.columns, number, slices) for frame in frames]
        if not frames:
            return None
        return frames[0] if len(frames) == 1 else concatenated(frames)

    def replace(self, pane: int, frame: pl.DataFrame) -> None:
        """Make the merged `frame` the whole content of a pane."""
        if pane in self._panes:
            self.drop(pane)
        (part,) = self._pane(pane).parts
        self._keep(pane, 0, part, frame)
        part.merged_rows = frame.height
        if self._nbytes > self._budget:
            self._make_room()

    def drop(self, pane: int) -> None:
        """Forget a pane."""
        content = self._panes.pop(pane)
        self._ascending = None
        self._take_front(pane, content)
        for number, part in enumerate(content.parts):
            self._take(pane, number, part)

    def clear(self) -> None:
        """Forget all panes."""
        for pane in self.panes():
            self.drop(pane)

    def snapshot(self) -> OperatorSnapshot:
        """What is in memory, and which chunks there are in the backend; under the state's name."""
        table: list[tuple[int, pl.DataFrame]] = []
        index: list[list[object]] = []
        for pane in self.panes():
            content = self._panes[pane]
            table += [(pane, frame) for part in content.parts for frame in part.partials]
            table += [(pane, frame) for frame in content.front]
            if content.next_chunk:
                chunks = [[list(chunk) for chunk in part.chunks] for part in content.parts]
                index.append([pane, content.next_chunk, chunks])
        name = self._address.state
        return OperatorSnapshot({name: index}, {name: table}, self._keys.columns)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Take back what the snapshots hold of the own keys. At most one chunk is loaded at a time."""
        name = self._address.state
        for saved in parts:
            for pane, next_chunk, listed in saved.values.get(name, ()):
                chunks = [[Chunk(*chunk) for chunk in of_part] for of_part in listed]
                if saved.adopted:
                    self._adopt(whole(pane, "a pane"), whole(next_chunk, "a chunk's number"), chunks)
                    continue
                if saved.backend is None:
                    raise StateError(
                        f"pane {pane} was in a state backend that is not there",
                        hint="restore from another checkpoint",
                    )
                foreign = PaneChunks(saved.backend, self._address)
                for frame in foreign.read(pane, (chunk for of_part in chunks for chunk in of_part)):
                    own = self._keys.rows(frame)
                    if own.height:
                        self.append(pane, own)
        for pane, frame in self._keys.restored(parts, name, self._merge):
            self.append(pane, frame)

    def _adopt(self, pane: int, next_chunk: int, chunks: Sequence[list[Chunk]]) -> None:
        """The chunks of a pane are in the backend already."""
        content = self._pane(pane)
        content.parts = [Part(chunks=of_part) for of_part in chunks]
        content.next_chunk = next_chunk
        for part in content.parts:
            self._spilled += sum(chunk.stored for chunk in part.chunks)
            self._rows += part.rows

    # In memory.

    def _pane(self, pane: int) -> Pane:
        content = self._panes.get(pane)
        if content is None:
            content = self._panes[pane] = Pane()
            self._ascending = None
        return content

    def _add(self, pane: int, number: int, part: Part, frame: pl.DataFrame) -> bool:
        """Add a partial to a part; whether that made it merge."""
        self._keep(pane, number, part, frame)
        part.pending_rows += frame.height
        if part.pending_rows <= max(_MERGE_ROWS, part.merged_rows) and len(part.partials) <= _MERGE_PARTIALS:
            return False
        self._merge_resident(part)
        return True

    def _keep(self, pane: int, number: int, part: Part, frame: pl.DataFrame) -> None:
        size = self._sizes.of(frame)
        part.partials.append(frame)
        part.nbytes += size
        self._nbytes += size
        self._rows += frame.height
        self._resident[pane, number] = part
        self._resident.move_to_end((pane, number))

    def _take(self, pane: int, number: int, part: Part) -> None:
        """Forget what a part has."""
        self._rows -= part.rows
        self._resident.pop((pane, number), None)
        self._nbytes -= part.nbytes
        if part.chunks:
            self._spilled -= sum(chunk.stored for chunk in part.chunks)
            self._chunks.drop(pane, part.chunks)

    def _merge_resident(self, part: Part) -> None:
        """Leave one merged frame in memory."""
        if not part.pending_rows and len(part.partials) == 1:
            return
        merged = self._merged(part.partials)
        size = self._sizes.of(merged)
        self._nbytes += size - part.nbytes
        self._rows += merged.height - sum(partial.height for partial in part.partials)
        part.partials, part.nbytes = [merged], size
        part.merged_rows, part.pending_rows = merged.height, 0

    def _merged(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        return self._merge(concatenated(frames))

    def _make_room(self) -> None:
        """Merge, and where that does not help spill, the coldest parts first, until there is some room.

        Not just enough room: a spill for each append would be slow.
        """
        for pane, content in list(self._fronts.items()):
            self._divide_front(pane, content)
        wanted = self._budget * _SPILL_TO
        for part in list(self._resident.values()):
            before = part.nbytes
            self._merge_resident(part)
            if self._nbytes <= wanted:
                return
            if part.nbytes > before * _WORTH_MERGING:
                break
        while self._nbytes > wanted and self._resident:
            (pane, number), part = next(iter(self._resident.items()))
            self._merge_resident(part)
            content = self._panes[pane]
            if len(content.parts) == 1 and part.size > min(_DIVIDED_WHEN_SPILLED, self._slice_bytes):
                self._divide(pane, content)
                # They are as cold as the pane was.
                for at in reversed(range(_PARTS)):
                    if (pane, at) in self._resident:
                        self._resident.move_to_end((pane, at), last=False)
            else:
                self._spill(pane, number, part)

    # Divided.

    def _divide(self, pane: int, content: Pane) -> None:
        """Make many parts of a pane that has one. What it has spilled is little, or it would have been divided."""
        (whole,) = content.parts
        frames = [*self._chunks.read(pane, whole.chunks), *whole.partials]
        self._take(pane, 0, whole)
        content.parts = [Part() for _ in range(_PARTS)]
        for frame in frames:
            self._distribute(pane, content, frame)

    def _put_in_front(self, pane: int, content: Pane, frame: pl.DataFrame) -> None:
        size = self._sizes.of(frame)
        content.front.append(frame)
        content.front_rows += frame.height
        content.front_bytes += size
        self._nbytes += size
        self._rows += frame.height
        self._fronts[pane] = content
        if content.front_rows > _MERGE_ROWS or len(content.front) > _MERGE_PARTIALS:
            self._divide_front(pane, content)

    def _take_front(self, pane: int, content: Pane) -> list[pl.DataFrame]:
        frames = content.front
        if frames:
            self._nbytes -= content.front_bytes
            self._rows -= content.front_rows
            content.front, content.front_rows, content.front_bytes = [], 0, 0
            del self._fronts[pane]
        return frames

    def _divide_front(self, pane: int, content: Pane) -> None:
        if content.front:
            self._distribute(pane, content, concatenated(self._take_front(pane, content)))

    def _distribute(self, pane: int, content: Pane, frame: pl.DataFrame) -> None:
        """Each row to the part that has its key."""
        for number, rows in in_slices(frame, self._keys.columns, len(content.parts)):
            self._add(pane, number, content.parts[number], rows)

    # In the backend.

    def _spill(self, pane: int, number: int, part: Part) -> None:
        (frame,) = part.partials
        for chunk in self._chunks.write(pane, self._panes[pane].next_chunk, frame, part.nbytes):
            part.chunks.append(chunk)
            self._spilled += chunk.stored
            self._panes[pane].next_chunk = chunk.number + 1
        self._nbytes -= part.nbytes
        part.partials, part.nbytes, part.merged_rows, part.pending_rows = [], 0, 0, 0
        del self._resident[pane, number]

    def _content(self, pane: int, part: Part) -> pl.DataFrame:
        """All that a part has, merged."""
        if part.chunks:
            return self._merge_spilled(pane, part)
        self._merge_resident(part)
        return part.partials[0]

    def _merge_spilled(self, pane: int, part: Part) -> pl.DataFrame:
        """Oldest first, merging on the way, so that the result and one part of its size are all that is in memory."""
        merged_rows, pending_rows = 0, 0
        frames: list[pl.DataFrame] = []
        for frame in self._in_order(pane, part):
            frames.append(frame)
            pending_rows += frame.height
            if pending_rows > max(_MERGE_ROWS, merged_rows):
                frames = [self._merged(frames)]
                merged_rows, pending_rows = frames[0].height, 0
        return self._merged(frames) if pending_rows or len(frames) > 1 else frames[0]

    def _in_order(self, pane: int, part: Part) -> Iterator[pl.DataFrame]:
        yield from self._chunks.read(pane, part.chunks)
        yield from part.partials
