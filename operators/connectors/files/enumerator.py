"""Finds the splits of a `FileSource`: all of them at once, or repeatedly as files come and grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, Final

from streamflow.errors import StateError
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.file_ends import Ends
from streamflow.operators.connectors.files.formats.csv_format import CsvColumns, CsvOptions
from streamflow.operators.connectors.files.formats.formats import LINE_FORMATS
from streamflow.operators.connectors.files.formats.inference import check_inferred
from streamflow.operators.connectors.files.formats.tables import count_rows
from streamflow.operators.connectors.files.listing import FoundFile
from streamflow.operators.connectors.files.splits import SPLIT_BYTES, FilePart, by_arithmetic, parts_of
from streamflow.operators.contract.source import Discovery, SourceContext, Split

__all__ = ["FileEnumerator", "Told", "WatchingEnumerator"]

_BLOCK: Final = 1 << 20

Listing = Callable[[], list[FoundFile]]


@dataclass(frozen=True, slots=True)
class Told:
    """Columns and types inferred from the first rows of `path`; None if the job declares them. They are pinned over
    the whole life of a job: its state and output have these types."""

    path: str
    columns: Mapping[str, str] | None = None

    def snapshot(self) -> Mapping[str, Any]:
        """The inferred columns for the enumerator's snapshot."""
        return {"told": None if self.columns is None else dict(self.columns)}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raises SourceError if they differ from those of an earlier run."""
        saved = state["told"]
        if saved is not None and self.columns is not None:
            check_inferred(saved, self.columns, self.path)


class FileEnumerator:
    """The enumerator of a bounded source: the files that exist when the job starts."""

    def __init__(
        self, listing: Listing, ctx: SourceContext, *, in_order: bool, csv: CsvOptions, told: Told
    ) -> None:
        self._listing = listing
        self._told = told
        self._ctx = ctx
        self._in_order = in_order
        self._csv = csv
        self._done = False

    async def discover(self) -> Discovery:
        splits: list[Split] = [] if self._done else await self._ctx.run_blocking(self._look)
        self._done = True
        return Discovery(splits, final=True)

    def snapshot(self) -> Mapping[str, Any]:
        return {"done": self._done, **self._told.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        _same_way(state, "done", "was watched, and is not any more", 'keep watch="…"')
        self._told.check(state)
        self._done = bool(state["done"])

    def _look(self) -> list[Split]:
        splits: list[Split] = []
        for file in self._listing():
            with reading(file.path):
                parts = _all_parts(file, self._csv)
            for number, part in enumerate(parts):
                # Ranges of one file follow one another in time; files lie side by side unless they are in order.
                holds = number == 0 and (not self._in_order or not splits)
                splits.append(part.split(whole=len(parts) == 1, holds_watermark=holds))
        return splits


def _same_way(state: Mapping[str, Any], key: str, what: str, hint: str) -> None:
    """Raises StateError if the checkpoint is of a source that was read in another way."""
    if key not in state:
        raise StateError(f"the source {what}", hint=f'{hint}, or start with restore="none"')


def _all_parts(file: FoundFile, csv: CsvOptions) -> list[FilePart]:
    ends = Ends.of(file.path, file.size)
    if file.format not in LINE_FORMATS:
        rows = count_rows(file.path, file.format)
        pieces = max(1, ceil(file.size / SPLIT_BYTES))
        return list(parts_of(file, ends, start=0, end=rows, step=max(1, ceil(rows / pieces))))
    step = SPLIT_BYTES if by_arithmetic(file, csv) else max(1, file.size)
    return list(parts_of(file, ends, start=0, end=file.size, step=step))


@dataclass(frozen=True, slots=True)
class _Known:
    """A known file: read up to `offset`, recognised by its inode and by digests of the first bytes and of those
    before `offset`."""

    offset: int
    size: int
    modified_ns: int
    inode: int
    head: bytes
    tail: bytes = b""
    generation: int = 0


class WatchingEnumerator:
    """The enumerator of a watched source: looks at intervals. New whole lines become a split; a last line without its
    newline waits for it.

    A file that is shorter than before, has another inode, or other bytes at its start or before the reading position,
    is a new file under an old name and is read from its start. Lines written to the old file since the last look are
    missed, so rotated files should stay outside of the glob and be rotated while no program writes. A missing file is
    looked for again.
    """

    def __init__(
        self, listing: Listing, ctx: SourceContext, *, interval: float, csv: CsvOptions, told: Told
    ) -> None:
        self._listing = listing
        self._told = told
        self._ctx = ctx
        self._interval = interval
        self._csv = csv
        self._known: dict[str, _Known] = {}
        self._looked = False

    async def discover(self) -> Discovery:
        while True:
            if self._looked:
                await self._ctx.clock.sleep(self._interval)
            splits, known = await self._ctx.run_blocking(self._look)
            first, self._looked = not self._looked, True
            self._known = known
            if splits or first:
                return Discovery(splits, final=False)

    def snapshot(self) -> Mapping[str, Any]:
        files = {path: asdict(known) for path, known in self._known.items()}
        return {"files": files, **self._told.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        _same_way(state, "files", "is watched, and was not", "leave watch= out")
        self._told.check(state)
        self._known = {path: _Known(**known) for path, known in state["files"].items()}

    def _look(self) -> tuple[Sequence[Split], dict[str, _Known]]:
        splits: list[Split] = []
        known = dict(self._known)
        fresh = [file for file in self._listing() if self._changed(file)]
        for file in sorted(fresh, key=lambda file: (file.modified_ns, file.path)):
            try:
                before = self._continued(file)
                known[file.path], parts = self._advance(file, before)
            except FileNotFoundError:
                continue
            except OSError as error:
                with reading(file.path):
                    raise error
            splits += [
                part.split(whole=False, holds_watermark=False, generation=known[file.path].generation)
                for part in parts
            ]
        return splits, known

    def _changed(self, file: FoundFile) -> bool:
        known = self._known.get(file.path)
        return known is None or (known.size, known.modified_ns, known.inode) != (
            file.size,
            file.modified_ns,
            file.inode,
        )

    def _continued(self, file: FoundFile) -> _Known:
        """The file as known, or as new if another file has its name."""
        known = self._known.get(file.path)
        fresh = _Known(0, file.size, file.modified_ns, file.inode, b"")
        if known is None:
            return fresh
        if known.inode == file.inode and file.size >= known.offset:
            whole = file.splittable or file.size == known.size
            if whole and Ends.of(file.path, known.offset) == Ends(known.offset, known.head, known.tail):
                return known
        return replace(fresh, generation=known.generation + 1)

    def _advance(self, file: FoundFile, known: _Known) -> tuple[_Known, list[FilePart]]:
        """The file as it is now known, and its new parts."""
        if not file.splittable:
            parts = _all_parts(file, self._csv) if known.offset == 0 else []
            offset = file.size
            ends = Ends.of(file.path, offset)
        else:
            offset = _whole_lines(file, known.offset, self._csv)
            ends = Ends.of(file.path, offset)
            step = SPLIT_BYTES if by_arithmetic(file, self._csv) else max(1, offset - known.offset)
            parts = list(parts_of(file, ends, start=known.offset, end=offset, step=step))
        seen = replace(known, offset=offset, size=file.size, modified_ns=file.modified_ns, inode=file.inode)
        return replace(seen, head=ends.head, tail=ends.tail), parts


def _whole_lines(file: FoundFile, start: int, csv: CsvOptions) -> int:
    """The offset behind the last whole record at or after `start`, or `start` if there is none."""
    quote = csv.quote if file.format == "csv" else None
    form = CsvColumns({}, (), replace(csv, quote=quote), file.path)
    end, offset, held = start, start, b""
    with Path(file.path).open("rb", buffering=0) as opened:
        opened.seek(start)
        while offset < file.size and (block := opened.read(min(_BLOCK, file.size - offset))):
            offset += len(block)
            held += block
            cut = form.cut(held)
            end += cut
            held = held[cut:]
    return end
