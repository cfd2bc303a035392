"""The committing half of `FileSink`: sealed files become visible by renaming. Everything here can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from streamflow.errors import SinkError
from streamflow.operators.connectors.files.encoding import join_files, sync_file, sync_folder
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
                    (self._folder / old).unlink(missing_ok=True)
                    touched.add((self._folder / old).parent)
            for folder in touched:
                if folder.is_dir():
                    sync_folder(folder)
            _drop_empty({self._folder / str(piece["staged"]) for piece in committables if "staged" in piece})

    def _publish(self, staged: Path, final: Path) -> None:
        missing = [folder for folder in (final.parent, *final.parent.parents) if not folder.exists()]
        final.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
        _rename(staged, final)


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
            if not joined.exists() and any(piece.exists() for piece in pieces):
                begins = any("begins" in piece for piece in committables)
                self._join(
                    [*([self._target] if self._target.exists() and not begins else []), *pieces], joined
                )
            for piece in pieces:
                piece.unlink(missing_ok=True)
            if joined.exists():
                joined.replace(self._target)
            elif not self._target.exists():
                raise _lost(self._target)
            sync_folder(folder)
            _drop_empty(set(pieces))

    def _join(self, parts: list[Path], joined: Path) -> None:
        if len(parts) == 1:
            parts[0].replace(joined)
        else:
            whole = joined.with_name(f"{joined.name}-unfinished")
            join_files(parts, whole, self._format)
            sync_file(whole)
            whole.replace(joined)
        sync_folder(joined.parent)


def _rename(staged: Path, final: Path) -> None:
    try:
        staged.replace(final)
    except FileNotFoundError as error:
        # Renamed already, by a commit that is now repeated.
        if not final.exists():
            raise _lost(final) from error


def _lost(path: Path) -> SinkError:
    return SinkError(
        f"the staged content of {str(path)!r} is gone",
        hint="somebody removed hidden files beside the output: run the job again",
    )


def _drop_empty(staged: set[Path]) -> None:
    for folder in {path.parent for path in staged}:
        with suppress(OSError):
            folder.rmdir()
