"""The number of files that this process may hold open, connections among them."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

__all__ = ["allow_open_files"]

_MOST: Final = (65_536, 10_240)
"""Numbers that are asked for, one after the other: some systems refuse the first though no limit is set."""


def allow_open_files() -> None:
    """Raises the process's own limit towards the one that its owner may set, as Go and the JVM do.

    A shell gives 1,024, or 256 on macOS, for the sake of programs that call `select`; a database of one subtask takes
    nine. Leaves the limit where the system does not let it be raised.
    """
    for most in _MOST:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
