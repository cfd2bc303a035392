"""Names that survive a crash: of folders, synced all the way down before their content counts as safe, and of files.

A file gets its new name before it loses the old one, so that no crash takes both: a rename from one folder to another
is one step on most file systems only; where the folders are synced one after the other, a crash between can leave the
file without any name.
"""

from __future__ import annotations

from pathlib import Path

from streamflow.disk import FOREIGN, NO_LINKS, Disk

__all__ = ["give_name", "make_durable", "sync_down"]


def make_durable(disk: Disk, folder: Path, *, private: bool = False) -> None:
    """Makes a folder and those above it, and syncs all their names: a dead run may have made some of them without
    syncing."""
    disk.make_folder(folder, private=private)
    for above in reversed(folder.parents):
        try:
            disk.sync_folder(above)
        except OSError as error:
            if error.errno not in FOREIGN:
                raise


def sync_down(disk: Disk, base: Path, folder: Path) -> None:
    """Syncs the names in `folder` and in those between it and `base`, from above."""
    between = [above for above in folder.parents if above == base or base in above.parents]
    for each in (*reversed(between), folder):
        if disk.exists(each):
            disk.sync_folder(each)


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
        if error.errno not in NO_LINKS:
            raise
        disk.rename(old, new)
