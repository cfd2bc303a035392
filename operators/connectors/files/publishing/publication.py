"""The committing half of a `FileSink`, and of one that writes a folder: sealed files get their names in it.

Each step can be repeated. A note names the runs whose part files are this sink's own, so that a run that continues
from a checkpoint takes back exactly the files published after it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from streamflow.errors import SinkError
from streamflow.operators.connectors.files.failures import writing
from streamflow.operators.connectors.files.publishing.durable_names import give_name, make_durable, sync_down
from streamflow.operators.connectors.files.publishing.hidden_folder import Presence, no_other_run
from streamflow.operators.connectors.files.publishing.ownership import (
    Layout,
    Note,
    Owner,
    PartName,
    confined,
    here,
    hidden,
)
from streamflow.operators.contract.sink import Committable, Committer, SinkContext

__all__ = ["FolderCommitter", "OutputCommitter", "beginning", "lost", "not_ours"]


class OutputCommitter(Committer):
    """The common part of both committers: a note, a presence that other runs see, and work on the I/O threads."""

    def __init__(self, layout: Layout, ctx: SinkContext) -> None:
        self._layout = layout
        self._ctx = ctx
        self._disk = ctx.disk
        self._owner = Owner.of(layout.hidden, ctx.job, ctx.operator_id)
        self._note = Note(self._owner.note, ctx)
        self._presence = Presence(ctx.disk, layout.hidden, f"{self._owner.stem}-{ctx.random.token()}")
        self._made = False

    async def begin(self) -> None:
        await self._ctx.run_blocking(self._begin)

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        await self._ctx.run_blocking(self._commit, epoch, committables)

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        await self._ctx.run_blocking(self._restored, epoch, committables, carried)

    async def close(self) -> None:
        await self._ctx.run_blocking(self._presence.end)

    def _begin(self) -> None:
        """Begins a run: other runs see it, and staged files of dead runs that took no checkpoints are removed. Raises
        SinkError if another run is at work and one of the two would replace the other's output."""
        with writing(str(self._layout.target)):
            self._presence.begin()
            if self._layout.single or self._layout.mode == "overwrite":
                no_other_run(self._presence, self._layout.target)
            elif self._presence.others():
                return
            self._owner.sweep_once(self._disk)

    def _restored(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable]
    ) -> None:
        self._begin()
        with writing(str(self._layout.target)):
            carried = here(self._layout, self._owner, self._disk, carried)
            self._restore(epoch, here(self._layout, self._owner, self._disk, committables), carried)
            self._owner.sweep(self._disk, carried)

    @abstractmethod
    def _commit(self, epoch: int, committables: Sequence[Committable]) -> None: ...

    @abstractmethod
    def _restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable]
    ) -> None: ...


class FolderCommitter(OutputCommitter):
    """A committer that gives each sealed file its name in the folder. On the first commit of an overwriting run, the
    earlier files are removed once the new ones are there."""

    def __init__(self, layout: Layout, ctx: SinkContext) -> None:
        super().__init__(layout, ctx)
        self._folder = layout.base

    def _commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        with writing(str(self._folder)):
            if not self._made:
                make_durable(self._disk, self._folder)
                self._made = True
            elif not self._disk.exists(self._folder):
                raise gone(self._folder)
            self._remember(committables)
            finals = self._paths("final", self._folder, committables)
            staged = self._paths("staged", self._layout.hidden, committables)
            folders = {final.parent for final in finals}
            for folder in folders:
                self._disk.make_folder(folder)
            for path, final in zip(staged, finals, strict=True):
                self._publish(path, final)
            replaced = [name for piece in committables for name in piece.get("replaces", ())]
            for old in {confined(self._folder, name) for name in replaced} - set(finals):
                self._disk.remove(old)
                folders.add(old.parent)
            for folder in sorted(folders):
                sync_down(self._disk, self._folder, folder)
            forgotten = [name for piece in committables for name in piece.get("forgets", ())]
            for path in [*staged, *(confined(self._layout.hidden, name) for name in forgotten)]:
                self._disk.remove(path)

    def _paths(self, key: str, base: Path, committables: Sequence[Committable]) -> list[Path]:
        return [confined(base, piece[key]) for piece in committables if "final" in piece]

    def _publish(self, staged: Path, final: Path) -> None:
        try:
            give_name(self._disk, staged, final)
        except FileNotFoundError as error:
            # Published already, by a commit that is now repeated.
            if not self._disk.exists(final):
                raise lost(final, apart=self._ctx.apart) from error
        self._ctx.reach("commit.renamed")

    def _remember(self, committables: Sequence[Committable]) -> None:
        """Notes the runs whose file names are about to appear, before they do."""
        started = beginning(committables)
        if not self._ctx.checkpointed:
            if started is not None:
                self._note.remove()
            return
        note = self._note.read()
        known = _runs(note)
        if note is None or (started is not None and note.get("started") != started):
            # The first commit of a job that starts over: an earlier job's files are not its own.
            note, known = {"started": started}, set[str]()
        runs = known | {
            name.run
            for piece in committables
            if "final" in piece and (name := PartName.parse(Path(str(piece["final"])).name)) is not None
        }
        if note.get("runs") != sorted(runs):
            self._note.write({"started": note["started"], "runs": sorted(runs)})

    def _restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable]
    ) -> None:
        started = beginning([*committables, *carried])
        note = self._note.read()
        if started is None and note is None and self._occupied():
            raise not_ours(self._folder)
        if _told_of(note, started) and _runs(note) and not self._disk.exists(self._folder):
            if not self._ctx.from_savepoint:
                raise gone(self._folder)
            self._note.write({"started": note["started"], "runs": []})
        if committables:
            self._commit(epoch, committables)
        note = self._note.read()
        if _told_of(note, started):
            self._take_back(epoch, _runs(note), [*committables, *carried])

    def _occupied(self) -> bool:
        return self._layout.mode != "append" and self._layout.occupied(self._disk)

    def _take_back(self, epoch: int, runs: set[str], keep: Sequence[Committable]) -> None:
        kept = set(self._paths("final", self._folder, keep))
        folders: set[Path] = set()
        for path in self._disk.files_below(self._folder):
            name = PartName.parse(path.name)
            if name is None or name.epoch <= epoch or name.run not in runs or path in kept:
                continue
            if not hidden(path, self._folder):
                self._disk.remove(path)
                folders.add(path.parent)
        for folder in folders:
            self._disk.sync_folder(folder)
            if folder != self._folder:
                self._disk.remove_folder(folder)


def _told_of(note: Mapping[str, Any] | None, started: str | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether a note is of the runs that this one continues; `started` names a job that started over."""
    return note is not None and started in (None, note.get("started"))


def _runs(note: Mapping[str, Any] | None) -> set[str]:
    return set() if note is None else {str(run) for run in note.get("runs", ())}


def beginning(committables: Sequence[Committable]) -> str | None:
    """The name of a job that started over, if its output begins with these committables; None if they continue."""
    return next((str(piece["begins"]) for piece in committables if "begins" in piece), None)


def gone(folder: Path) -> SinkError:
    """The error for published output that has disappeared."""
    return SinkError(
        f"the folder {str(folder)!r} is gone, with the output that this job has published there",
        hint='put it back, or start over with restore="none"',
    )


def lost(path: Path, *, apart: bool) -> SinkError:
    """The error for sealed output that is neither staged nor published; `apart`: it was staged by another process."""
    elsewhere = "the writer's process has another folder under this path; " if apart else ""
    return SinkError(
        f"the staged content of {str(path)!r} is gone",
        hint=f"{elsewhere}it was removed, or hidden files beside it were: put it back, or start over with "
        'restore="none"',
    )


def not_ours(path: Path) -> SinkError:
    """The error for existing output that no earlier run of the job has written."""
    return SinkError(
        f"{str(path)!r} already holds something that this job has not written",
        hint='choose another path or mode="append"; remove it and start with restore="none"; or, if you moved it, '
        "move the hidden folder beside it along (.NAME.streamflow)",
    )
