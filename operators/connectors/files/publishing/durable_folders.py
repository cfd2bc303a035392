"""Folders that survive a crash: their names are synced all the way down before their content counts as safe."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from streamflow.disk import Disk

__all__ = ["make_durable", "sync_down"]

_NOT_OURS: Final = frozenset([errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS])
"""Errors for a folder far above, which this user may only pass through: it cannot be synced, and has long been
there."""


def make_durable(disk: Disk, folder: Path, *, private: bool = False) -> None:
    """Makes a folder and those above it, and syncs all their names: a dead run may have made some of them without
    syncing."""
    disk.make_folder(folder, private=private)
    for above in reversed(folder.parents):
        try:
            disk.sync_folder(above)
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise


def sync_down(disk: Disk, base: Path, folder: Path) -> None:
    """Syncs the names in `folder` and in those between it and `base`, from above."""
    between = [above for above in folder.parents if above == base or base in above.parents]
    for each in (*reversed(between), folder):
        if disk.exists(each):
            disk.sync_folder(each)
