"""The committing half of `FileSink`: sealed files become visible by renaming. Everything here can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamflow.disk import Disk
from streamflow.errors import SinkError
from streamflow.operators.connectors.files.encoding import join_files
from streamflow.operators.connectors.files.failures import writing
from streamflow.operators.connectors.files.formats import FileFormat
from streamflow.operators.sink import Committable, SinkContext

__all__ = ["FileCommitter", "FolderCommitter"]


class FolderCommitter:
    """Each sealed file gets its name in the folder. On the first commit of a run that overwrites, the files that were
    there before go once the new ones are there."""

    def __init__(self, folder: Path, ctx: SinkContext) -> None:
        self._folder = folder
        self._ctx = ctx
        self._disk = ctx.disk

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        await self._ctx.run_blocking(self._commit, committables)

    def _commit(self, committables: Sequence[Committable]) -> None:
        with writing(str(self._folder)):
            finals = [str(piece["final"]) for piece in committables if "final" in piece]
            for piece in committables:
                if "final" in piece:
                    self._publish(self._folder / str(piece["staged"]), self._folder / str(piece["final"]))
            touched = {(self._folder / final).parent for final in finals}
            for old in (str(name) for piece in committables for name in piece.get("replaces", ())):
                if old not in finals:
                    self._disk.remove(self._folder / old)
                    touched.add((self._folder / old).parent)
            for folder in touched:
                if self._disk.exists(folder):
                    self._disk.sync_folder(folder)
            _drop_empty(
                self._disk,
                {self._folder / str(piece["staged"]) for piece in committables if "staged" in piece},
            )

    def _publish(self, staged: Path, final: Path) -> None:
        missing = [
            folder for folder in (final.parent, *final.parent.parents) if not self._disk.exists(folder)
        ]
        self._disk.make_folder(final.parent)
        for folder in missing:
            self._disk.sync_folder(folder.parent)
        _rename(self._disk, staged, final)


class FileCommitter:
    """The sealed pieces of an epoch join what the run has committed before, in one file.

    Steps that can be repeated after a crash: join into `.…-commit-<epoch>` and sync; remove the pieces; rename over the
    target. Pieces are removed only when the joined file is safe, and it gets its name only when they are gone. What was
    there before the run is not joined: the first epoch of a run that does not append says that it begins.
    """

    def __init__(self, target: Path, format: FileFormat, ctx: SinkContext) -> None:
        self._target = target
        self._format: FileFormat = format
        self._ctx = ctx
        self._disk = ctx.disk

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        await self._ctx.run_blocking(self._commit, epoch, committables)

    def _commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        folder = self._target.parent
        staged = sorted(
            (str(piece["final"]), folder / str(piece["staged"])) for piece in committables if "final" in piece
        )
        pieces = [path for _, path in staged]
        # The pieces' folder is this run's alone: what a dead run left behind bears another name.
        run = f"{pieces[0].parent.name}-" if pieces else ""
        joined = folder / f"{run}commit-{epoch}"
        with writing(str(self._target)):
            if not self._disk.exists(joined) and any(map(self._disk.exists, pieces)):
                begins = any("begins" in piece for piece in committables)
                before = [self._target] if self._disk.exists(self._target) and not begins else []
                self._join([*before, *pieces], joined)
            for piece in pieces:
                self._disk.remove(piece)
            for staging in {piece.parent for piece in pieces}:
                # A piece that came back after a crash would be joined a second time.
                if self._disk.exists(staging):
                    self._disk.sync_folder(staging)
            if self._disk.exists(joined):
                self._disk.rename(joined, self._target)
            elif not self._disk.exists(self._target):
                raise _lost(self._target)
            self._disk.sync_folder(folder)
            _drop_empty(self._disk, set(pieces))

    def _join(self, parts: list[Path], joined: Path) -> None:
        if len(parts) == 1:
            self._disk.rename(parts[0], joined)
        else:
            whole = joined.with_name(f"{joined.name}-unfinished")
            join_files(self._disk, parts, whole, self._format)
            self._disk.sync(whole)
            self._disk.rename(whole, joined)
        self._disk.sync_folder(joined.parent)


def _rename(disk: Disk, staged: Path, final: Path) -> None:
    try:
        disk.rename(staged, final)
    except FileNotFoundError as error:
        # Renamed already, by a commit that is now repeated.
        if not disk.exists(final):
            raise _lost(final) from error


def _lost(path: Path) -> SinkError:
    return SinkError(
        f"the staged content of {str(path)!r} is gone",
        hint="somebody removed hidden files beside the output: run the job again",
    )


def _drop_empty(disk: Disk, staged: set[Path]) -> None:
    for folder in {path.parent for path in staged}:
        disk.remove_folder(folder)
