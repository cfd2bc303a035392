"""Ownership of files: a sink's staging folders and its note bear the names of job and operator, and part files the
run's, so that the files of two sinks in one folder never meet.

A run that continues from a checkpoint removes files left by dead runs of the same job and operator, and takes back
those published after the checkpoint. Files without such a name belong to somebody else and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, cast

from streamflow.disk import Disk
from streamflow.errors import SinkError
from streamflow.operators.connectors.files.formats.encoding import SUFFIXES
from streamflow.operators.connectors.files.formats.formats import FileFormat
from streamflow.operators.connectors.files.publishing.durable_names import make_durable
from streamflow.operators.contract.sink import Committable, SinkContext

__all__ = ["Layout", "Note", "Owner", "PartName", "confined", "here", "hidden"]

Mode = Literal["error", "append", "overwrite"]

_STAGED: Final = re.compile(r"\d+-[0-9a-f]+")
_ONCE: Final = "once-"
"""The beginning of names staged by runs without checkpoints: no later run uses such files."""
_PART: Final = re.compile(
    r"part-(\d{5,})-(\d{8,})-(\d{4,})(?:-([0-9a-f]+))?(" + "|".join(map(re.escape, SUFFIXES.values())) + ")"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The place and form of a `FileSink`'s output. `given` is the path as its user gave it, by which a later run
    recognises it; `hidden` the hidden folder."""

    given: str
    target: Path
    hidden: Path
    format: FileFormat
    separator: str
    single: bool
    partition_by: tuple[str, ...]
    roll: int | None
    mode: Mode

    @property
    def base(self) -> Path:
        """The folder of the output."""
        return self.target.parent if self.single else self.target

    def occupied(self, disk: Disk) -> bool:
        """Whether there is any output already, of any writer."""
        if self.single:
            return disk.exists(self.target)
        return any(not hidden(path, self.base) for path in disk.files_below(self.base))


@dataclass(frozen=True, slots=True)
class Owner:
    """One sink of one job, by the names of its hidden files.

    >>> owner = Owner.of(Path(".out.streamflow"), "departures", "write-1")
    >>> owner.staging(2, "c0ffee", lasting=True).name
    'write-1-2ee5c684-2-c0ffee'
    >>> owner.owns("write-1-2ee5c684-2-c0ffee"), owner.owns("write-1-00000000-2-c0ffee")
    (True, False)
    """

    hidden: Path
    stem: str

    @classmethod
    def of(cls, hidden: Path, job: str, operator: str) -> Owner:
        """The owner by the names of job and operator, escaped: jobs may have names that no file can have."""
        digest = blake2b(f"{job}\0{operator}".encode(), digest_size=4).hexdigest()
        return cls(hidden, f"{operator}-{digest}")

    def staging(self, subtask: int, token: str, *, lasting: bool) -> Path:
        """The folder in which one writer's files grow. `lasting`: a checkpoint may name its files."""
        return self.hidden / f"{'' if lasting else _ONCE}{self.stem}-{subtask}-{token}"

    @property
    def note(self) -> Path:
        """The note's file, which says what has been published."""
        return self.hidden / f"{self.stem}.json"

    def other_notes(self, disk: Disk) -> list[str]:
        """The names of other sinks' notes."""
        paths = [path for path in disk.files_below(self.hidden) if path.parent == self.hidden]
        return [path.name for path in paths if path.suffix == ".json" and path != self.note]

    def owns(self, name: str) -> bool:
        """Whether it is the name of a staging folder of this sink."""
        rest = name.removeprefix(f"{self.stem}-")
        return rest != name and _STAGED.fullmatch(rest) is not None

    def sweep(self, disk: Disk, keep: Sequence[Committable]) -> None:
        """Removes dead runs' staged files, except those that are still to be committed."""
        kept = {confined(self.hidden, piece["staged"]) for piece in keep if "staged" in piece}
        for folder in disk.folders_in(self.hidden):
            if self.owns(folder.name):
                _empty(disk, folder, kept)

    def sweep_once(self, disk: Disk) -> None:
        """Removes files that runs without checkpoints staged, or joined to one file; called when no such run is
        alive."""
        for folder in disk.folders_in(self.hidden):
            if folder.name.startswith(_ONCE):
                _empty(disk, folder, set())
        for path in disk.files_below(self.hidden):
            if path.parent == self.hidden and path.name.startswith(_ONCE):
                disk.remove(path)


def _empty(disk: Disk, folder: Path, keep: set[Path]) -> None:
    for path in disk.files_below(folder):
        if path not in keep:
            disk.remove(path)
    disk.remove_folder(folder)


@dataclass(frozen=True, slots=True)
class PartName:
    """The parts of a part file's name. `run` is the writer's token; earlier versions left it out.

    >>> PartName.parse("part-00003-00000041-0000.csv")
    PartName(subtask=3, epoch=41, number=0, run='', suffix='.csv')
    >>> str(PartName(0, 7, 1, "c0ffee", ".parquet"))
    'part-00000-00000007-0001-c0ffee.parquet'
    """

    subtask: int
    epoch: int
    number: int
    run: str
    suffix: str

    @classmethod
    def parse(cls, name: str) -> PartName | None:
        """The parsed name; None for any other name."""
        found = _PART.fullmatch(name)
        if found is None:
            return None
        subtask, epoch, number, run, suffix = found.groups()
        return cls(int(subtask), int(epoch), int(number), run or "", suffix)

    def __str__(self) -> str:
        run = f"-{self.run}" if self.run else ""
        return f"part-{self.subtask:05}-{self.epoch:08}-{self.number:04}{run}{self.suffix}"


class Note:
    """A small file beside the output that outlives the runs of a job; it changes in one step."""

    def __init__(self, path: Path, ctx: SinkContext) -> None:
        self._path = path
        self._ctx = ctx
        self._disk = ctx.disk

    def read(self) -> Mapping[str, Any] | None:
        """The last content written; None if there is no note."""
        if not self._disk.exists(self._path):
            return None
        try:
            content = json.loads(self._disk.read(self._path))
        except ValueError as error:
            raise self._strange() from error
        if not isinstance(content, dict):
            raise self._strange()
        return cast("dict[str, Any]", content)

    def write(self, content: Mapping[str, Any]) -> None:
        """Replaces the content, durably."""
        make_durable(self._disk, self._path.parent)
        unfinished = self._path.with_name(f"{self._path.name}-unfinished")
        whole = {"job": self._ctx.job, "operator": self._ctx.operator_id, **content}
        self._disk.write(unfinished, json.dumps(whole).encode())
        self._disk.sync(unfinished)
        self._disk.rename(unfinished, self._path)
        self._disk.sync_folder(self._path.parent)

    def remove(self) -> None:
        """Removes the note: its content is no longer true."""
        if self._disk.exists(self._path):
            self._disk.remove(self._path)
            self._disk.sync_folder(self._path.parent)

    def _strange(self) -> SinkError:
        return SinkError(
            f"{str(self._path)!r} is not the note that streamflow wrote",
            hint="the note says which output belongs to which checkpoint: remove the output and start over",
        )


def hidden(path: Path, base: Path) -> bool:
    """Whether the path leads through a name that begins with a dot, seen from `base`."""
    return any(part.startswith(".") for part in path.relative_to(base).parts)


def confined(base: Path, name: object) -> Path:
    """A path below `base` from a checkpoint or a note, which others may have been able to change; raises otherwise.

    >>> confined(Path("out"), "origin=JFK/part-00000-00000001-0000.csv").as_posix()
    'out/origin=JFK/part-00000-00000001-0000.csv'
    """
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise SinkError(
            f"{str(name)!r} does not lie below {str(base)!r}",
            hint="the note or checkpoint about the output has been changed by another program",
        )
    return base / path


def here(layout: Layout, owner: Owner, disk: Disk, committables: Sequence[Committable]) -> list[Committable]:
    """The committables staged for this target; others were staged when the job wrote elsewhere, and are published
    there.

    Raises SinkError if some are not: only a run that writes there can publish them.
    """
    mine: list[Committable] = []
    for piece in committables:
        if piece["target"] == layout.given or _moved_here(layout, owner, disk, piece):
            mine.append(piece)
        elif "staged" in piece and disk.exists(confined(Path(str(piece["hidden"])), piece["staged"])):
            raise SinkError(
                f"the checkpoint has output that is not yet published in {str(piece['target'])!r}, "
                f"and the job writes to {layout.given!r} now",
                hint="run it once more with the old path, stop it, and then change the path",
            )
    return mine


def _moved_here(layout: Layout, owner: Owner, disk: Disk, piece: Committable) -> bool:
    """Whether the whole folder has been moved together with its hidden folder."""
    if "staged" not in piece or not owner.owns(PurePosixPath(str(piece["staged"])).parts[0]):
        return False
    return disk.exists(confined(layout.hidden, piece["staged"])) or disk.exists(
        confined(layout.base, piece["final"])
    )
