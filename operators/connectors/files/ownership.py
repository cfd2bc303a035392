"""Which files beside the output are whose: a sink's staging folders and its note bear the job's and operator's names.

A run that goes on from a checkpoint removes what dead runs of the same job and operator left, and takes back what they
published after the checkpoint. Whatever bears no such name is somebody else's and stays.
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
from streamflow.operators.connectors.files.encoding import SUFFIXES
from streamflow.operators.connectors.files.formats import FileFormat
from streamflow.operators.sink import Committable, SinkContext

__all__ = ["Layout", "Note", "Owner", "PartName", "confined", "here", "hidden", "is_note", "is_part"]

Mode = Literal["error", "append", "overwrite"]

_STAGED: Final = re.compile(r"\d+-[0-9a-f]+")
_PART: Final = re.compile(
    r"part-(\d{5,})-(\d{8,})-(\d{4,})(?:-([0-9a-f]+))?(" + "|".join(map(re.escape, SUFFIXES.values())) + ")"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where and how a `FileSink` writes."""

    target: Path
    format: FileFormat
    single: bool
    partition_by: tuple[str, ...]
    roll: int | None
    mode: Mode

    @property
    def base(self) -> Path:
        """The folder in which output and staging lie."""
        return self.target.parent if self.single else self.target

    def occupied(self, disk: Disk) -> bool:
        """Whether there is any output already, whoever wrote it."""
        if self.single:
            return disk.exists(self.target)
        return any(not hidden(path, self.base) for path in disk.files_below(self.base))


@dataclass(frozen=True, slots=True)
class Owner:
    """One sink of one job, by the names that its hidden files bear.

    >>> layout = Layout(Path("out"), "csv", False, (), None, "error")
    >>> owner = Owner.of(layout, "departures", "write-1")
    >>> owner.staging(2, "c0ffee").name
    '.streamflow-write-1-2ee5c684-2-c0ffee'
    >>> owner.owns(".streamflow-write-1-2ee5c684-2-c0ffee"), owner.owns(".streamflow-write-1-00000000-2-c0ffee")
    (True, False)
    """

    base: Path
    stem: str

    @classmethod
    def of(cls, layout: Layout, job: str, operator: str) -> Owner:
        """By the names of job and operator; jobs may have names that no file can have."""
        digest = blake2b(f"{job}\0{operator}".encode(), digest_size=4).hexdigest()
        beside = f".{layout.target.name}" if layout.single else ""
        return cls(layout.base, f"{beside}.streamflow-{operator}-{digest}")

    def staging(self, subtask: int, token: str) -> Path:
        """The folder in which one writer's files grow."""
        return self.base / f"{self.stem}-{subtask}-{token}"

    @property
    def note(self) -> Path:
        """The file that says what has been published."""
        return self.base / f"{self.stem}.json"

    def owns(self, name: str) -> bool:
        """Whether it is the name of a staging folder of this sink."""
        rest = name.removeprefix(f"{self.stem}-")
        return rest != name and _STAGED.fullmatch(rest) is not None

    def sweep(self, disk: Disk, keep: Sequence[Committable]) -> None:
        """Remove what dead runs staged, but for what is still to be committed."""
        kept = {confined(self.base, piece["staged"]) for piece in keep if "staged" in piece}
        for folder in disk.folders_in(self.base):
            if self.owns(folder.name):
                for path in disk.files_below(folder):
                    if path not in kept:
                        disk.remove(path)
                disk.remove_folder(folder)


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part file says. `run` is empty where runs are not told apart.

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
        """None for any other name."""
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
        """What was written last; None where there is no note."""
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
        """Safe from crashes when it returns."""
        unfinished = self._path.with_name(f"{self._path.name}-unfinished")
        whole = {"job": self._ctx.job, "operator": self._ctx.operator_id, **content}
        self._disk.write(unfinished, json.dumps(whole).encode())
        self._disk.sync(unfinished)
        self._disk.rename(unfinished, self._path)
        self._disk.sync_folder(self._path.parent)

    def remove(self) -> None:
        """What it says holds no longer."""
        if self._disk.exists(self._path):
            self._disk.remove(self._path)
            self._disk.sync_folder(self._path.parent)

    def _strange(self) -> SinkError:
        return SinkError(
            f"{str(self._path)!r} is not what streamflow wrote there",
            hint="it says which output belongs to which checkpoint: remove the output and start anew",
        )


def hidden(path: Path, base: Path) -> bool:
    """Whether the path leads through a name that begins with a dot, seen from `base`."""
    return any(part.startswith(".") for part in path.relative_to(base).parts)


def is_part(name: str) -> bool:
    """Whether a file is output of a sink, of whatever version."""
    return name.startswith("part-") and name.endswith(tuple(SUFFIXES.values()))


def is_note(name: str) -> bool:
    """Whether a file in an output folder is some sink's note."""
    return name.startswith(".streamflow-") and name.endswith(".json")


def confined(base: Path, name: object) -> Path:
    """A path that was kept in a checkpoint or a note, which others may have been able to change: below `base`.

    >>> confined(Path("out"), "origin=JFK/part-00000-00000001-0000.csv").as_posix()
    'out/origin=JFK/part-00000-00000001-0000.csv'
    """
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise SinkError(
            f"{str(name)!r} does not lie below {str(base)!r}",
            hint="what is kept about the output has been changed by somebody else",
        )
    return base / path


def here(layout: Layout, owner: Owner, disk: Disk, committables: Sequence[Committable]) -> list[Committable]:
    """Those that were staged for this target; others were, when the job wrote elsewhere, and are published there.

    Raises SinkError where some are not: only a run that writes there can publish them.
    """
    mine: list[Committable] = []
    for piece in committables:
        target = Path(str(piece["target"]))
        names = [confined(layout.base, piece[key]) for key in ("staged", "final") if key in piece]
        if target == layout.target or (
            # The whole folder may have been moved.
            any(map(disk.exists, names)) and owner.owns(names[0].relative_to(layout.base).parts[0])
        ):
            mine.append(piece)
        elif "staged" in piece:
            base = target.parent if piece["single"] else target
            if disk.exists(confined(base, piece["staged"])):
                raise SinkError(
                    f"the checkpoint has output that is not yet published in {str(target)!r}, "
                    f"and the job writes to {str(layout.target)!r} now",
                    hint="run it once more with the old path, stop it, and then change the path",
                )
    return mine
