"""The committing half of a `FileSink` that writes one file, which is written again at each epoch.

Steps that can be repeated after a crash: note the epoch; join the target and the sealed pieces into a hidden file and
sync it; remove the pieces; rename the hidden file over the target. Pieces are removed only when the joined file is
safe, and it gets its name only when they are gone, so the progress of a commit is always known: as long as any of the
hidden files in the note exists, the target is unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamflow.disk import Disk
from streamflow.errors import SinkError
from streamflow.operators.connectors.files.failures import writing
from streamflow.operators.connectors.files.formats.encoding import join_files
from streamflow.operators.connectors.files.publishing.durable_names import give_name, make_durable
from streamflow.operators.connectors.files.publishing.ownership import Layout, PartName, confined
from streamflow.operators.connectors.files.publishing.publication import (
    OutputCommitter,
    beginning,
    lost,
    not_ours,
)
from streamflow.operators.contract.sink import Committable, SinkContext

__all__ = ["FileCommitter"]


class FileCommitter(OutputCommitter):
    """A committer that joins the sealed pieces of an epoch to the job's earlier output, in one file.

    A file from before the job is not joined, unless the sink appends: the job's first pieces say that it begins.
    """

    def __init__(self, layout: Layout, ctx: SinkContext) -> None:
        super().__init__(layout, ctx)
        self._target = layout.target
        self._base = layout.base
        self._hidden = layout.hidden

    def _commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        staged = sorted(
            (str(piece["final"]), confined(self._hidden, piece["staged"]))
            for piece in committables
            if "final" in piece
        )
        started = beginning(committables)
        with writing(str(self._target)):
            held = self._held(started)
            # A run that commits at its end also gets the pieces that an earlier one had published at its checkpoints.
            pieces = [path for name, path in staged if not _within(name, held) or self._disk.exists(path)]
        if not pieces:
            return
        # The first piece's folder is a writer's alone: leftovers of a dead run have other names.
        joined = self._hidden / f"{pieces[0].parent.name}-joined-{pieces[0].stem}"
        begins = started is not None and not held
        with writing(str(self._target)):
            if not self._made:
                make_durable(self._disk, self._base)
                self._made = True
            if self._disk.exists(joined) or any(map(self._disk.exists, pieces)):
                if begins and self._layout.mode == "error" and self._disk.exists(self._target):
                    raise SinkError(
                        f"{str(self._target)!r} was made by another program since the job started",
                        hint="another program writes there: choose another path",
                    )
                self._remember(epoch, joined, pieces, started)
            if not self._disk.exists(joined) and any(map(self._disk.exists, pieces)):
                adds = not begins or any(piece.get("adds", False) for piece in committables)
                before = [self._target] if adds and self._disk.exists(self._target) else []
                self._join([*before, *pieces], joined)
            for piece in pieces:
                self._disk.remove(piece)
            for staging in {piece.parent for piece in pieces}:
                # A piece that came back after a crash would be joined a second time.
                if self._disk.exists(staging):
                    self._disk.sync_folder(staging)
            if self._disk.exists(joined):
                self._disk.rename(joined, self._target)
                self._ctx.reach("commit.renamed")
            elif not self._disk.exists(self._target) or (self._ctx.checkpointed and self._held(None) < epoch):
                # Neither waiting nor published by a commit that is now repeated.
                raise lost(self._target, apart=self._ctx.apart)
            self._disk.sync_folder(self._base)

    def _held(self, started: str | None) -> int:
        """The last epoch of this job's output in the target; 0 if none is known."""
        note = self._read_note() if self._ctx.checkpointed else None
        return 0 if note is None or started not in (None, note.started) else note.held(self._disk)

    def _join(self, parts: list[Path], joined: Path) -> None:
        if len(parts) == 1:
            give_name(self._disk, parts[0], joined)
        else:
            whole = _unfinished(joined)
            join_files(self._disk, parts, whole, self._layout.format)
            self._disk.sync(whole)
            self._disk.rename(whole, joined)
        self._disk.sync_folder(self._hidden)

    def _remember(self, epoch: int, joined: Path, pieces: list[Path], started: str | None) -> None:
        """Notes the content that the target will have, and its content until then."""
        if not self._ctx.checkpointed:
            if started is not None:
                self._note.remove()
            return
        note = self._read_note()
        if note is None or started not in (None, note.started):
            self._write_note(_Published(started, epoch, 0, joined, pieces))
        elif note.joined != joined:
            self._write_note(_Published(note.started, epoch, note.epoch, joined, pieces))

    def _restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable]
    ) -> None:
        self._judge(epoch, beginning([*committables, *carried]))
        self._commit(epoch, committables)
        note = self._read_note()
        if note is not None and note.waits(self._disk):
            # Begun by a run that committed at each epoch, and handed on by one that commits at its end.
            self._commit(note.epoch, self._all_of(note, carried))
            note = self._read_note()
        if note is not None:
            self._give_up(note)

    def _all_of(self, note: _Published, carried: Sequence[Committable]) -> Sequence[Committable]:
        """The output that was to be published, if all of it is still to be; else nothing."""
        staged = {confined(self._hidden, piece["staged"]): piece for piece in carried if "staged" in piece}
        if not all(piece in staged for piece in note.pieces):
            return ()
        return [
            *(staged[piece] for piece in note.pieces),
            *(piece for piece in carried if "begins" in piece),
        ]

    def _give_up(self, note: _Published) -> None:
        """Drops joined output of an epoch that is not continued from, after noting that it was not published."""
        if note.waits(self._disk):
            self._write_note(_Published(note.started, note.before, note.before, note.joined, []))
            self._disk.remove(note.joined)
        self._disk.remove(_unfinished(note.joined))

    def _judge(self, epoch: int, started: str | None) -> None:
        """Whether a run can continue from this epoch with the target as it is."""
        note = self._read_note()
        if started is not None and (note is None or note.started != started):
            # Nothing of this job has been committed yet.
            return
        if note is None:
            if self._layout.mode != "append" and self._disk.exists(self._target):
                raise not_ours(self._target)
            return
        holds = note.held(self._disk)
        if holds > epoch and not self._ctx.allow_duplicates:
            raise SinkError(
                f"{str(self._target)!r} holds the output up to epoch {holds}, "
                f"the job continues from epoch {epoch}: output between the two would be there twice",
                hint="restore the newest checkpoint, write to another file or a folder, "
                "or accept duplicates (allow_duplicates)",
            )
        if holds and not self._disk.exists(self._target):
            raise SinkError(
                f"{str(self._target)!r} is gone, with the output up to epoch {holds}",
                hint='put it back, or start over with restore="none"',
            )

    def _read_note(self) -> _Published | None:
        note = self._note.read()
        if note is None:
            return None
        started = note["started"]
        return _Published(
            None if started is None else str(started),
            int(note["epoch"]),
            int(note["before"]),
            confined(self._hidden, note["joined"]),
            [confined(self._hidden, name) for name in note["staged"]],
        )

    def _write_note(self, note: _Published) -> None:
        self._note.write(
            {
                "started": note.started,
                "epoch": note.epoch,
                "before": note.before,
                "joined": note.joined.name,
                "staged": [piece.relative_to(self._hidden).as_posix() for piece in note.pieces],
            }
        )


@dataclass(frozen=True, slots=True)
class _Published:
    """The note's content: the target holds the output up to `epoch`, and up to `before` as long as a hidden file of
    the commit exists. `started` is the job's name since it started over."""

    started: str | None
    epoch: int
    before: int
    joined: Path
    pieces: list[Path]

    def held(self, disk: Disk) -> int:
        """The last epoch of output that the target holds now."""
        return self.before if self.waits(disk) else self.epoch

    def waits(self, disk: Disk) -> bool:
        return any(map(disk.exists, [self.joined, *self.pieces]))


def _within(final: str, epoch: int) -> bool:
    """Whether a piece is of this epoch or an earlier one."""
    name = PartName.parse(Path(final).name)
    return name is not None and name.epoch <= epoch


def _unfinished(joined: Path) -> Path:
    return joined.with_name(f"{joined.name}-unfinished")
