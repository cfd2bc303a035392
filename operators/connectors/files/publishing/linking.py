"""Publishing by a second name: a file gets its new name before it loses the old one, so that no crash takes both.

A rename from one folder to another is one step on most file systems only; where the folders are synced one after the
other, a crash between can leave the file without any name.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from streamflow.disk import Disk

__all__ = ["give_name"]

_NO_LINKS: Final = frozenset(
    [errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK]
)


def give_name(disk: Disk, old: Path, new: Path) -> None:
    """Gives a file the name `new`, in place of a file that may have it.

    The old name still exists (if the file system has links): remove it once the folder of the new one has been
    synced. Raises FileNotFoundError if `old` does not exist.
    """
    try:
        disk.link(old, new)
    except FileExistsError:
        mine, there = disk.info(old).identity, disk.info(new).identity
        if mine is None or mine != there:
            disk.remove(new)
            disk.link(old, new)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        disk.rename(old, new)
