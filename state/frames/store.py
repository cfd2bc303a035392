"""The keyed frame store: rows by pane and key, hot in memory, cold in the backend.

A pane is named by an integer (the start of its slice or window). Appending is cheap: a pane collects frames and merges
them when what is unmerged outgrows what is merged, as a log-structured merge tree does (O'Neil et al., 1996), so each
row is merged about a constant number of times. When the stores of a subtask exceed its memory, the panes appended to
least recently are merged and spilled to the backend as sealed Arrow IPC, in chunks; a pane that goes on growing spills
in several runs, and reading merges them. The order of appending is kept, for aggregates like first and last.

Looking up keys costs what the keys cost, whatever is stored: the frames of a pane in which keys have been looked up are
merged into few runs, each sorted by the hash of the key, and so are their chunks.

A large pane is divided by a hash of the keys into parts (a Grace hash join's partitions), which are merged, spilled
and read one by one: however large it is, a slice of it at a time can be worked on within the budget.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.membership import has_key_in
from streamflow.core.partition import partitioned
from streamflow.errors import StateError
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.frames.chunks import Chunk, Chunks, chunk_runs, chunks_with
from streamflow.state.frames.division import Division
from streamflow.state.frames.key_slices import slices_of, slices_of_hashes
from streamflow.state.frames.merging import MARK, Merging, as_they_are, flagged, marks_of, unflagged
from streamflow.state.frames.parts import TAIL_FRAMES, TAIL_ROWS, FrameSizes, Pane, Part, are_few
from streamflow.state.frames.runs import Run, by_hash, compared_keys, rows_of_runs, sorted_together
from streamflow.state.keyed.key_hashes import Sought
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.memory_share import MemoryShare
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart, whole

__all__ = ["FrameStore"]

_WORTH_MERGING: Final = 0.5
_PARTS: Final = 64
"""The number of parts that a large pane is divided into; a power of two."""
_SLICES_PER_SHARE: Final = 8
_LEAST_SLICE: Final = 64 << 10
_DIVIDED_WHEN_SPILLED: Final = 2 << 20
_MOST_SLICES: Final = 1 << 12
_CHUNK_RUNS: Final = 2
"""The number of runs of chunks that are looked up in above which they are merged."""
_TAIL_FRAMES_LOOKED_UP: Final = 8
"""The number of frames of a tail above which they are put together."""
_SORTED_AT_ONCE: Final = 1 << 16
"""Rows; so many are sorted before they are divided in a store that is `sorting`: each part by itself takes longer."""
_RUNS: Final = 8
"""The number of runs of a part from which on they are merged when many rows come."""
_HASH: Final = "__hash"
_FRONT: Final = -1
"""The number of the part in front."""


class FrameStore:
    """Rows by pane and key, within `memory`: a share that the stores of one subtask have together, or bytes for this
    store alone.

    `merge` turns the concatenation of frames into one and must be associative; column types may widen from one frame to
    the next. `replacing`: rows of a key can be put in the place of older ones. `sorting`: the key of each row will be
    looked up, so that many rows are sorted when they come. `repeated`: most keys of a replacing one have several rows.

    Appending costs a few microseconds, merges and spills aside. The share bounds what is kept between calls; a call
    takes about twice the largest part of a pane more while it merges, `read` twice the pane. Raises KeyError for a pane
    that is not there, StateError where the backend fails.

    >>> from streamflow.state.backends.memory import MemoryBackend
    >>> keys = OwnedKeys(("k",), range(128), 128)
    >>> store = FrameStore(MemoryBackend(), "window-1", lambda f: f.group_by("k").agg(pl.col("n").sum()), 1 << 20, keys)
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
        memory: MemoryShare | int,
        keys: OwnedKeys,
        *,
        state: str = "panes",
        replacing: bool = False,
        sorting: bool = False,
        repeated: bool = False,
    ) -> None:
        self._address = StateAddress(operator_id, state)
        self._chunks = Chunks(backend, self._address)
        self._merging = Merging(keys.looked_up, merge, replacing=replacing, repeated=repeated)
        self._replacing = replacing
        self._keeps_each = merge is as_they_are and not replacing
        self._sorting = sorting
        self._memory = MemoryShare.alone(memory) if isinstance(memory, int) else memory
        self._memory.join(self)
        self._slice_bytes = max(self._memory.equal // _SLICES_PER_SHARE, _LEAST_SLICE)
        self._division = Division(self._slice_bytes, replacing=replacing)
        self._keys = keys
        self._by = keys.looked_up
        self._panes: dict[int, Pane] = {}
        # The parts with anything in memory, coldest first.
        self._resident: OrderedDict[tuple[int, int], Part] = OrderedDict()
        self._fronts: dict[int, Pane] = {}
        self._ascending: tuple[int, ...] | None = ()
        self._nbytes = 0
        self._told = 0
        """The bytes that its share knows of."""
        self._rows = 0
        self._spilled = 0
        self._sizes = FrameSizes()

    @property
    def rows(self) -> int:
        """Rows in all panes, in memory and spilled; rows of one key in two frames count twice."""
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
        """Adds rows to a pane, which is made if it is missing. The frame is kept, not copied."""
        if not frame.height and pane in self._panes:
            return
        if self._replacing and MARK not in frame.columns:
            frame = flagged(frame, mark=False)
        content = self._pane(pane)
        self._division.come(frame.height)
        if len(content.parts) == 1:
            (part,) = content.parts
            merged = self._add(pane, 0, part, frame)
            if (merged or part.looked_up) and self._division.is_due(part):
                self._divide(pane, content)
        else:
            self._fronts[pane] = content
            self._keep(content.front, frame)
            if content.front.rows > TAIL_ROWS or len(content.front.tail) > TAIL_FRAMES:
                self._divide_front(pane, content)
            elif content.front.looked_up and content.front.tail_is_long:
                self._merge_tail(content.front)
        self._tell()

    def remove(self, pane: int, rows: pl.DataFrame) -> None:
        """Removes all rows of the keys of these, which have been looked up. For a store that is `replacing`."""
        self.append(pane, marks_of(rows, list(self._by)))

    def look_up(self, pane: int, keys: pl.DataFrame) -> pl.DataFrame | None:
        """The merged rows of keys in a pane (their columns, any number of times each); None if there are none. The
        cost follows the number of keys, whatever the pane's size, except at the first and second time, when the pane
        is searched and sorted."""
        if (content := self._panes.get(pane)) is None:
            return None
        self._division.come(keys.height)
        if content.goes_by_part(keys.height):
            found = self._looked_up_by_part(pane, content, keys)
            rows = concatenated(found) if found else None
        else:
            if are_few([content], keys.height):
                distinct, found = keys[list(self._by)].unique(), self._all_of([content])
            else:
                sought = self._keys.hashes.sought(keys)
                distinct, found = sought.keys, self._near(pane, sought)
            rows = self._merging.rows(concatenated(found), distinct) if found else None
        return rows if rows is not None and rows.height else None

    def peek(self, pane: int, keys: pl.DataFrame) -> pl.DataFrame | None:
        """The same as `look_up` for a few keys, without changing anything. The cost is that of comparing the rows in
        memory that are not sorted with the keys, and of some chunks for each key."""
        if (content := self._panes.get(pane)) is None:
            return None
        sought = self._keys.hashes.sought(keys)
        frames: list[pl.DataFrame] = []
        for part, hashes in content.parts_of(sought.hashes):
            frames += self._chunks.read(pane, chunks_with(part.chunks, hashes))
            frames += part.near(hashes, self._by)
        if not frames:
            return None
        found = concatenated(frames)
        rows = self._merging.rows(found.filter(has_key_in(found, sought.keys, self._by)), sought.keys)
        return rows if rows.height else None

    def pieces(self, pane: int) -> Iterator[pl.DataFrame]:
        """The rows of a pane, not merged and in no order: those in the backend chunk by chunk, then those in memory."""
        parts = self._panes[pane].all_parts
        for part in parts:
            yield from self._chunks.read(pane, part.chunks)
        if in_memory := [run.frame for part in parts for run in part.in_memory]:
            yield concatenated(in_memory)

    def candidates(self, panes: Sequence[int], keys: pl.DataFrame) -> list[pl.DataFrame]:
        """Frames of these panes with all rows of the keys, not merged, and rows of other keys beside them: for a join,
        which sorts them out anyway. The cost is at most that of `look_up`."""
        contents = [self._panes[pane] for pane in panes]
        self._division.come(keys.height)
        if are_few(contents, keys.height):
            return self._all_of(contents)
        sought = self._keys.hashes.sought(keys)
        frames: list[pl.DataFrame] = []
        runs: list[Run] = []
        for pane in panes:
            for part, hashes in self._parts_of(pane, sought):
                if len(hashes) == len(sought.hashes):
                    frames += self._chunks.read(pane, self._prepared(pane, part, hashes))
                    runs += part.in_memory
                else:
                    frames += self._rows_of(pane, part, hashes, sought.values)
        frames += rows_of_runs(runs, sought.hashes, self._by, compared_keys(sought.values, sought.hashes))
        self._tell()
        return frames

    def read(self, pane: int) -> pl.DataFrame:
        """The merged frame of a pane. Stays in memory only if the pane was there anyway."""
        return concatenated(self._slice(pane, 0, 1))

    def share(self, pane: int) -> float:
        """The size of a pane as a multiple of the part that can be worked on at a time: above 1 it should be read in
        slices."""
        return self._panes[pane].size / self._slice_bytes

    def slices(self, panes: Iterable[int]) -> int:
        """The number of slices for these panes so that a slice of all of them is no large part of the budget."""
        share = sum(self.share(pane) for pane in panes)
        count = 1
        while count < _MOST_SLICES and count < share:
            count *= 2
        return count

    def read_slice(self, panes: Sequence[int], number: int, slices: int) -> pl.DataFrame | None:
        """The rows of these panes, merged in each, whose keys are in one of so many slices (a power of two); None if
        there are none.

        The same keys are in the same slice in all panes.
        """
        found = [frame for pane in panes for frame in self._slice(pane, number, slices) if frame.height]
        return concatenated(found) if found else None

    def in_slices(self, *panes: int) -> Iterator[pl.DataFrame]:
        """The rows of these panes, merged in each, a slice of the keys at a time, as far as there are any."""
        slices = self.slices(panes)
        for number in range(slices):
            if (rows := self.read_slice(panes, number, slices)) is not None:
                yield rows

    def drop(self, pane: int) -> None:
        """Removes a pane."""
        content = self._panes.pop(pane)
        self._ascending = None
        self._fronts.pop(pane, None)
        self._take(pane, _FRONT, content.front)
        for number, part in enumerate(content.parts):
            self._take(pane, number, part)
        self._tell()

    def clear(self) -> None:
        """Removes all panes."""
        for pane in self.panes():
            self.drop(pane)

    def make_room(self, nbytes: int) -> None:
        """Merges, and if that does not help spills, the coldest parts first, until about so many bytes are free."""
        wanted = self._nbytes - nbytes
        for pane, content in list(self._fronts.items()):
            self._divide_front(pane, content)
        self._make_small(wanted)
        self._told = self._nbytes

    def snapshot(self) -> OperatorSnapshot:
        """The frames in memory, and the list of chunks in the backend; under the state's name."""
        table: list[tuple[int, pl.DataFrame]] = []
        index: list[list[object]] = []
        for pane in self.panes():
            content = self._panes[pane]
            parts = (*content.parts, content.front)
            table += [(pane, run.frame) for part in parts for run in part.in_memory]
            if content.next_chunk:
                chunks = [[list(chunk) for chunk in part.chunks] for part in content.parts]
                index.append([pane, content.next_chunk, chunks])
        name = self._address.state
        return OperatorSnapshot({name: index}, {name: table}, self._keys.columns)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores the rows of the own keys from snapshots. At most one chunk is loaded at a time."""
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
                foreign = Chunks(saved.backend, self._address)
                for frame in foreign.read(pane, (chunk for of_part in chunks for chunk in of_part)):
                    own = self._keys.rows(frame)
                    if own.height:
                        self.append(pane, own)
        for pane, frame in self._keys.restored(
            parts, name, lambda frame: self._merging([frame], oldest=False)
        ):
            self.append(pane, frame)

    def _adopt(self, pane: int, next_chunk: int, chunks: Sequence[list[Chunk]]) -> None:
        """Adopts chunks of a pane that are in the backend already."""
        content = self._pane(pane)
        content.parts = [Part(chunks=of_part) for of_part in chunks]
        content.next_chunk = next_chunk
        for part in content.parts:
            self._spilled += sum(chunk.stored for chunk in part.chunks)
            self._rows += part.rows

    def _slice(self, pane: int, number: int, slices: int) -> list[pl.DataFrame]:
        """The merged frames of a pane's parts in one of so many slices."""
        content = self._panes[pane]
        self._divide_front(pane, content)
        parts = len(content.parts)
        # Where there are fewer slices than parts, each is several parts; where there are more, a piece of one.
        chosen = [part for at, part in enumerate(content.parts) if at % slices == number % parts]
        frames = [self._content(pane, part) for part in chosen if part.chunks or part.runs or part.tail]
        self._tell()
        if slices > parts:
            frames = [frame.filter(slices_of(frame, self._by, slices) == number) for frame in frames]
        return [*map(unflagged, frames)] if self._replacing else frames

    # In memory.

    def _tell(self) -> None:
        """Tells the subtask's share what is held, at the end of a call; it may ask to make room."""
        more, self._told = self._nbytes - self._told, self._nbytes
        self._memory.hold(more)

    def _pane(self, pane: int) -> Pane:
        content = self._panes.get(pane)
        if content is None:
            content = self._panes[pane] = Pane()
            # Keys whose rows are replaced have been looked up, or will be.
            content.parts[0].looked_up = self._replacing
            self._ascending = None
        return content

    def _add(self, pane: int, number: int, part: Part, frame: pl.DataFrame) -> bool:
        """Adds a frame to a part; returns whether that made it merge."""
        self._keep(part, frame)
        self._resident[pane, number] = part
        self._resident.move_to_end((pane, number))
        # Where keys are looked up it is merged then.
        if not part.tail_is_long or (part.looked_up and len(part.tail) < TAIL_FRAMES):
            return False
        self._merge_tail(part)
        return True

    def _keep(self, part: Part, frame: pl.DataFrame) -> None:
        run = Run(frame, self._sizes.of(frame))
        part.add(run)
        self._nbytes += run.nbytes
        self._rows += frame.height

    def _take(self, pane: int, number: int, part: Part) -> None:
        """Removes a part's content."""
        self._rows -= part.rows
        self._resident.pop((pane, number), None)
        self._nbytes -= part.nbytes
        if part.chunks:
            self._spilled -= sum(chunk.stored for chunk in part.chunks)
            self._chunks.drop(pane, part.chunks)

    def _merge_tail(self, part: Part) -> None:
        """Merges the tail, so that fewer frames are in memory."""
        self._merge_from(part, part.runs_kept)

    def _join_tail(self, part: Part) -> None:
        """Makes one frame of the tail without merging it, so that there are few to look up in."""
        frame = concatenated([run.frame for run in part.tail]).rechunk()
        self._nbytes -= sum(run.nbytes for run in part.tail)
        part.tail = [Run(frame, self._sizes.of(frame))]
        self._nbytes += part.tail[0].nbytes

    def _merge_resident(self, part: Part) -> None:
        """Merges a part's frames in memory into one."""
        if len(part.in_memory) != 1 or not part.in_memory[0].merged:
            self._merge_from(part, 0)

    def _merge_from(self, part: Part, kept: int) -> None:
        """Merges the tail and all runs but the first `kept` into one."""
        before, rows = part.nbytes, part.rows_in_memory
        runs = part.in_memory[kept:]
        merged: Run | None = None
        if runs:
            hashes: pl.Series | None = None
            if self._keeps_each and any(run.is_sorted for run in runs):
                frame, hashes = sorted_together(runs, self._by)
            else:
                oldest = part.oldest and not kept and not part.chunks
                frame = self._merging([run.frame for run in runs], oldest=oldest)
            looked_up = any(run.looked_up for run in runs)
            merged = Run(frame, self._sizes.of(frame), merged=True, looked_up=looked_up, hashes=hashes)
        part.replace(kept, merged)
        self._nbytes += part.nbytes - before
        self._rows += part.rows_in_memory - rows

    def _make_small(self, wanted: int) -> None:
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
        """Makes many parts of a pane that has one. Its spilled content is small, or it would have been divided."""
        (whole,) = content.parts
        frames = list(self._chunks.read(pane, whole.chunks))
        frames += [concatenated([run.frame for run in whole.in_memory])] if whole.in_memory else []
        self._take(pane, 0, whole)
        content.parts = [Part(looked_up=whole.looked_up) for _ in range(_PARTS)]
        content.front.looked_up = whole.looked_up
        for frame in frames:
            self._distribute(pane, content, frame)

    def _divide_front(self, pane: int, content: Pane) -> None:
        frames = [run.frame for run in content.front.in_memory]
        if frames:
            self._take(pane, _FRONT, content.front)
            content.front.replace(0, None)
            del self._fronts[pane]
            self._distribute(pane, content, concatenated(frames))

    def _distribute(self, pane: int, content: Pane, frame: pl.DataFrame) -> None:
        """Moves each row to the part that has its key."""
        columns, count = self._by, len(content.parts)
        if self._sorting and frame.height >= _SORTED_AT_ONCE:
            ordered, hashes = by_hash(frame, columns)
            hashed = ordered.hstack([hashes.alias(_HASH)])
            for number, rows in partitioned(hashed, slices_of_hashes(hashes, count)):
                run = Run(rows[frame.columns], self._sizes.of(rows), hashes=rows[_HASH])
                self._add_sorted(pane, number, content.parts[number], run)
            return
        for number, rows in partitioned(frame, slices_of(frame, columns, count)):
            self._add(pane, number, content.parts[number], rows)

    def _add_sorted(self, pane: int, number: int, part: Part, run: Run) -> None:
        """Adds many rows to a part as a run in which keys can be looked up at once."""
        if part.tail or len(part.runs) >= _RUNS:
            self._merge_tail(part)
        if len(part.runs) >= _RUNS:
            self._merge_resident(part)
        part.runs.append(run)
        self._nbytes += run.nbytes
        self._rows += run.frame.height
        self._resident[pane, number] = part
        self._resident.move_to_end((pane, number))

    # Looked up.

    def _all_of(self, contents: Sequence[Pane]) -> list[pl.DataFrame]:
        """All frames of panes in memory, oldest first by part."""
        parts = [part for content in contents for part in content.all_parts]
        for part in parts:
            # Or rows that have been replaced long ago would be gone over each time.
            if self._replacing and part.tail_is_long:
                self._merge_tail(part)
        found = [run.frame for part in parts for run in part.in_memory]
        # Last: another subtask may want its memory back, and what is spilled is no longer there.
        self._tell()
        return found

    def _near(self, pane: int, sought: Sought) -> list[pl.DataFrame]:
        """The frames of a pane, or the rows of them, in which these keys may be, oldest first by part."""
        found = [
            frame
            for part, hashes in self._parts_of(pane, sought)
            for frame in self._rows_of(pane, part, hashes, sought.values)
        ]
        self._tell()
        return found

    def _looked_up_by_part(self, pane: int, content: Pane, keys: pl.DataFrame) -> list[pl.DataFrame]:
        """The merged rows of keys in each part of a pane, looked up in one part after the other."""
        self._divide_front(pane, content)
        found: list[pl.DataFrame] = []
        for number, of_part in partitioned(keys, slices_of(keys, self._by, len(content.parts))):
            sought = self._keys.hashes.sought(of_part)
            if frames := self._rows_of(pane, content.parts[number], sought.hashes, sought.values):
                found.append(self._merging.rows(concatenated(frames), sought.keys))
        self._tell()
        return found

    def _parts_of(self, pane: int, sought: Sought) -> list[tuple[Part, Sequence[int]]]:
        """The parts of a pane in which these keys may be, each with the hashes of its keys."""
        content = self._panes[pane]
        if len(content.parts) == 1 and self._division.is_due(content.parts[0]):
            self._divide(pane, content)
        return content.parts_of(sought.hashes)

    def _rows_of(
        self, pane: int, part: Part, hashes: Sequence[int], values: Mapping[int, object]
    ) -> list[pl.DataFrame]:
        """The frames of a part, or the rows of them, in which keys with these hashes may be, oldest first. `values` are
        the keys by their hashes, if they can be compared."""
        chunks = self._prepared(pane, part, hashes)
        in_memory = rows_of_runs(part.in_memory, hashes, self._by, compared_keys(values, hashes))
        return [*self._chunks.read(pane, chunks), *in_memory]

    def _prepared(self, pane: int, part: Part, hashes: Sequence[int]) -> list[Chunk]:
        """Puts together what looking up would go over one by one; the chunks in which keys with these hashes may be."""
        part.looked_up = True
        part.gone_through += len(part.in_memory)
        if self._keeps_each and part.is_still:
            self._merge_resident(part)
        elif part.tail_is_long:
            self._merge_tail(part)
        elif len(part.tail) > _TAIL_FRAMES_LOOKED_UP:
            self._join_tail(part)
        if part.chunks and chunk_runs(part.chunks) > _CHUNK_RUNS:
            self._merge_chunks(pane, part)
        return chunks_with(part.chunks, hashes)

    def _merge_chunks(self, pane: int, part: Part) -> None:
        """Writes the chunks of a part again as one run."""
        merged = self._merging.in_portions(self._chunks.read(pane, part.chunks))
        self._spilled -= sum(chunk.stored for chunk in part.chunks)
        self._rows -= sum(chunk.rows for chunk in part.chunks)
        self._chunks.drop(pane, part.chunks)
        part.chunks = []
        self._write(pane, part, merged, self._sizes.of(merged))
        self._rows += merged.height

    # In the backend.

    def _spill(self, pane: int, number: int, part: Part) -> None:
        (run,) = part.runs
        self._write(pane, part, run.frame, run.nbytes)
        self._nbytes -= run.nbytes
        part.replace(0, None)
        del self._resident[pane, number]

    def _write(self, pane: int, part: Part, frame: pl.DataFrame, nbytes: int) -> None:
        """Appends chunks to those of a part."""
        content = self._panes[pane]
        frame, hashes = by_hash(frame, self._by) if part.looked_up else (frame, None)
        for chunk in self._chunks.write(pane, content.next_chunk, frame, nbytes, hashes):
            part.chunks.append(chunk)
            self._spilled += chunk.stored
            content.next_chunk = chunk.number + 1

    def _content(self, pane: int, part: Part) -> pl.DataFrame:
        """The content of a part, merged."""
        if part.chunks:
            in_memory = (run.frame for run in part.in_memory)
            return self._merging.in_portions(chain(self._chunks.read(pane, part.chunks), in_memory))
        self._merge_resident(part)
        return part.runs[0].frame
