"""The folder of the sockets of one job's processes, which nobody else may enter."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Final

from streamflow.errors import ConfigError

__all__ = ["COORDINATOR", "make_socket_folder"]

COORDINATOR: Final = "coordinator"
"""The name of the coordinator's socket."""
_PREFIX: Final = "streamflow-sockets-"
_LONGEST: Final = 60
"""Bytes: the path of a socket may have about 100."""
_SHORT: Final = "/tmp"


def make_socket_folder() -> str:
    """A new folder, of this account alone. Those that coordinators of this account have left behind, which were killed,
    are removed. Raises ConfigError if there can be none."""
    try:
        made = mkdtemp(prefix=_PREFIX, dir=_place())
    except OSError as error:
        raise ConfigError(
            f"no folder for the sockets of the workers can be made: {error.strerror or error}",
            hint="let TMPDIR name a folder that can be written",
        ) from error
    for folder in Path(_place()).glob(f"{_PREFIX}*"):
        if _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return made


def _place() -> str:
    """The folder for temporary files, or where its path is too long for sockets the system's own."""
    place = gettempdir()
    return place if len(os.fsencode(place)) <= _LONGEST or not os.access(_SHORT, os.W_OK) else _SHORT


def _is_left(folder: Path) -> bool:
    """Whether it is one of ours whose coordinator listens no more. One that does not listen yet has no socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return False
        asking.setblocking(False)
        try:
            asking.connect(str(folder / COORDINATOR))
        except ConnectionRefusedError:
            return True
    return False
