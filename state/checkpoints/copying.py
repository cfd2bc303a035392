"""Copying a checkpoint to another store: a savepoint, which stays when the job's own checkpoints have gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from streamflow.errors import StateError
from streamflow.state.checkpoints.manifest import Manifest, StoredFile

if TYPE_CHECKING:
    from streamflow.state.checkpoints.reader import CheckpointReader
    from streamflow.state.checkpoints.store import CheckpointStore

__all__ = ["copied"]


def copied(
    source: CheckpointReader,
    manifest: Manifest,
    target: CheckpointStore,
    kind: Literal["checkpoint", "savepoint"],
    changed: Mapping[str, bytes | None],
) -> Manifest:
    """The manifest in `target`, with every file verified and stored again. Files of the job as a whole get the
    content that `changed` gives by name, if it does, and are left out if it gives None. A target that is not claimed
    is claimed meanwhile. Raises StateError if it has a checkpoint of this number."""
    claimed = target.incarnation is not None
    target.claim()
    try:
        if manifest.number in target.numbers():
            raise StateError(
                f"{target.place} has a checkpoint {manifest.number} of {target.job} already",
                hint="give another place",
            )
        writer = target.session(manifest.number, apart=True)

        def stored(file: StoredFile) -> StoredFile:
            return replace(writer.put([source.read(file)], file.name), immutable=file.immutable)

        try:
            contents = ((name, data) for name, data in changed.items() if data is not None)
            files = tuple(writer.put([data], name) for name, data in contents)
            rest = tuple(file for file in manifest.files if file.name not in changed)
            whole = replace(manifest, files=rest).with_files(stored)
            return writer.publish(replace(whole, files=(*files, *whole.files), kind=kind, parent=None))
        finally:
            writer.abandon()
    finally:
        if not claimed:
            target.close()
