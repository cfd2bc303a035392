"""RocksDB's errors in a user's terms: rocksdict raises plain exceptions, told apart by their text."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from streamflow.errors import StateError

__all__ = ["state_error"]

_HINTS: Final = (
    (
        "lock hold by current process",
        "this process has it open already; close that backend and its scans first",
    ),
    ("While lock file", "another process has it open; stop that one, or use another state directory"),
    (
        "Resource temporarily unavailable",
        "another process has it open; stop that one, or use another state directory",
    ),
    ("Corruption", "its files are damaged; restore it from a checkpoint"),
    ("does not match existing comparator", "it was written by another program; give another state directory"),
    ("No space left", "free some disk space; nothing written before is lost"),
    ("Too many open files", "raise the limit (ulimit -n), or give the job fewer subtasks"),
    ("Permission denied", "check who owns the directory"),
    ("os error 13", "check who owns the directory"),
    ("File exists", "there is a file where the directory should be"),
    ("Not a directory", "there is a file where the directory should be"),
    ("No such file", "a file of it is missing; restore it from a checkpoint"),
)


def state_error(action: str, directory: Path, error: Exception) -> StateError:
    """The error to raise for rocksdict's error during `action`; told apart by its text, for want of types."""
    text = str(error)
    hint = next((hint for part, hint in _HINTS if part in text), None)
    return StateError(f"cannot {action} the state database in {directory}: {text}", hint=hint)
