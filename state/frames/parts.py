"""The content of one pane: its parts, their frames in memory and chunks in the backend, and its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import polars as pl

from streamflow.state.frames.chunks import Chunk
from streamflow.state.frames.key_slices import slice_of_hash
from streamflow.state.frames.runs import Run

__all__ = ["TAIL_FRAMES", "TAIL_ROWS", "FrameSizes", "Pane", "Part", "are_few"]

_FRAME_BYTES: Final = 400
_VIEW_BYTES: Final = 16
_ROUNDED_UP: Final = 4
"""Frames take up to a quarter more than they say: 1.14 to 1.25 of it, measured as resident memory."""
TAIL_ROWS: Final = 32_768
"""The number of rows that wait to be merged at least, or to be divided."""
TAIL_FRAMES: Final = 256
_MANY_PER_PART: Final = 256
_LOOKED_UP_ROWS: Final = 1_024
_GROWTH: Final = 2
_ALL_PER_KEY: Final = 16
"""The number of stored rows per sought key below which joining all of them costs less than looking the keys up."""
_ROWS_PER_RUN: Final = 512
"""The number of rows that are merged in about the time in which keys are looked up in a run."""


@dataclass(slots=True)
class Part:
    """Rows in the order of appending: first those in the backend (`chunks`), then `runs` in memory, then a `tail` of
    frames as they came. `oldest`: no older rows of the same keys are elsewhere."""

    oldest: bool = True
    looked_up: bool = False
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    runs: list[Run] = field(default_factory=list[Run])
    tail: list[Run] = field(default_factory=list[Run])
    tail_rows: int = 0
    gone_through: int = 0
    """The number of runs that have been looked up in since something was added."""

    @property
    def in_memory(self) -> list[Run]:
        """All runs in memory, oldest first."""
        return [*self.runs, *self.tail]

    @property
    def rows_in_memory(self) -> int:
        return self.tail_rows + sum(run.frame.height for run in self.runs)

    @property
    def rows(self) -> int:
        return self.rows_in_memory + sum(chunk.rows for chunk in self.chunks)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(run.nbytes for run in self.in_memory)

    @property
    def size(self) -> int:
        """The bytes of the part if all of it were in memory."""
        return self.nbytes + sum(chunk.size for chunk in self.chunks)

    def add(self, run: Run) -> None:
        """Appends a frame as it came."""
        self.tail.append(run)
        self.tail_rows += run.frame.height
        self.gone_through = 0

    @property
    def tail_is_long(self) -> bool:
        """Whether it is time to merge the tail: when it outgrows the merged rows; earlier if keys are looked up."""
        if self.looked_up:
            return self.tail_rows > _LOOKED_UP_ROWS and len(self.tail) > 1
        merged = sum(run.frame.height for run in self.runs)
        return self.tail_rows > max(TAIL_ROWS, merged) or len(self.tail) >= TAIL_FRAMES

    @property
    def is_still(self) -> bool:
        """Whether merging all that is in memory pays: nothing more comes, and looking up in several runs has cost about
        as much."""
        return len(self.in_memory) > 1 and self.gone_through * _ROWS_PER_RUN > self.rows_in_memory

    @property
    def runs_kept(self) -> int:
        """The number of runs that stay as they are when it is time to merge the tail: none; if keys are looked up,
        those much larger than all that comes after them, so that each row is merged a few times only, and there are
        few runs."""
        if not self.looked_up:
            return 0
        kept, rows = len(self.runs), self.tail_rows
        while kept and self.runs[kept - 1].frame.height < _GROWTH * rows:
            kept -= 1
            rows += self.runs[kept].frame.height
        return kept

    def near(self, hashes: Sequence[int], keys: Sequence[str]) -> list[pl.DataFrame]:
        """The frames in memory, or the rows of them, in which keys with these hashes may be; nothing is sorted."""
        found = (run.rows_of(hashes, keys) if run.is_sorted else run.frame for run in self.in_memory)
        return [rows for rows in found if rows is not None]

    def replace(self, kept: int, merged: Run | None) -> None:
        """Puts one run in the place of all in memory but the first `kept`; None for no run."""
        self.runs = self.in_memory[:kept] if merged is None else [*self.in_memory[:kept], merged]
        self.tail, self.tail_rows = [], 0


@dataclass(slots=True)
class Pane:
    """A pane of one part, or of many by a hash of the key; new frames then wait in `front` until there are enough to
    be divided."""

    parts: list[Part] = field(default_factory=lambda: [Part()])
    front: Part = field(default_factory=lambda: Part(oldest=False))
    next_chunk: int = 0

    @property
    def size(self) -> int:
        return self.front.nbytes + sum(part.size for part in self.parts)

    def goes_by_part(self, sought: int) -> bool:
        """Whether so many keys are looked up in one part after the other: hardly a chunk in the backend is without any
        of them, and all chunks would be in memory at once."""
        count = len(self.parts)
        return count > 1 and sought >= _MANY_PER_PART * count and any(part.chunks for part in self.parts)

    @property
    def all_parts(self) -> tuple[Part, ...]:
        return (*self.parts, self.front)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.all_parts)

    def parts_of(self, hashes: Sequence[int]) -> list[tuple[Part, Sequence[int]]]:
        """The parts in which keys with these hashes may be, each with its hashes; the one in front is last."""
        count = len(self.parts)
        if count == 1:
            return [(self.parts[0], hashes), (self.front, hashes)]
        by_part: dict[int, list[int]] = {}
        for key_hash in hashes:
            by_part.setdefault(slice_of_hash(key_hash, count), []).append(key_hash)
        return [*((self.parts[number], of_part) for number, of_part in by_part.items()), (self.front, hashes)]


def are_few(contents: Sequence[Pane], sought: int) -> bool:
    """Whether going over all rows of these panes costs less than looking so many keys up."""
    left = _ALL_PER_KEY * sought
    for part in chain.from_iterable(content.all_parts for content in contents):
        left -= part.rows_in_memory
        if part.chunks or left < 0:
            return False
    return True


class FrameSizes:
    """An estimator of frames' sizes in memory."""

    def __init__(self) -> None:
        self._row_overhead: dict[int, int] = {}

    def of(self, frame: pl.DataFrame) -> int:
        """The bytes of a frame. Polars' own estimate leaves out the 16 bytes that each text or binary value takes
        beside its content, and the allocator's rounding."""
        width = frame.width
        overhead = self._row_overhead.get(width)
        if overhead is None:
            views = sum(isinstance(dtype, (pl.String, pl.Binary)) for dtype in frame.dtypes)
            overhead = self._row_overhead[width] = _VIEW_BYTES * views
        content = int(frame.estimated_size()) + overhead * frame.height
        return content + content // _ROUNDED_UP + _FRAME_BYTES * width
