"""The user's own lines: which of the code on the call stack is the user's, and the line that called."""

from __future__ import annotations

import functools
import inspect
import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any, Final

__all__ = ["calling_line", "is_users", "is_users_module", "shown_path"]

_LIBRARIES: Final = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
)
"""This environment's libraries, and the commands that they bring along."""
_PACKAGE: Final = str(Path(__file__).parent) + os.sep
_INSTALLED: Final = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
"""Folders of libraries installed in any environment."""
_MADE: Final = ("<frozen ", "<attrs generated ", "<decorator-gen-", "<__array_function__")
"""Beginnings of the names of generated code: the interpreter's own, and code that libraries compile from text."""


def calling_line() -> str | None:
    """The innermost line of the user's own files on the present call stack, as `file:line in function`; None if there
    is none."""
    frame = inspect.currentframe()
    while frame is not None:
        if is_users(frame.f_code, frame.f_globals):
            return f"{shown_path(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None


def is_users(code: CodeType, module: Mapping[str, Any]) -> bool:
    """Whether code of a module with these names is the user's: neither this package's nor a library's nor compiled
    from text (as dataclasses compile theirs)."""
    file = code.co_filename
    main = module.get("__name__") == "__main__"
    if main and file.startswith(_PACKAGE):
        return False  # python -m streamflow
    if file.startswith(_MADE) or (file == "<string>" and not main):
        return False
    return not _library(file) and is_users_module(module)


def is_users_module(module: Mapping[str, Any]) -> bool:
    """Whether a module with these names is the user's: neither this package's nor a library's."""
    name = module.get("__name__")
    if isinstance(name, str) and (name == "streamflow" or name.startswith("streamflow.")):
        return False
    # Compiled code gives the place where it was compiled, like "msgpack/_packer.pyx"; its module gives the installed
    # one.
    at = module.get("__file__")
    return not (isinstance(at, str) and _library(at))


@functools.cache
def _library(file: str) -> bool:
    return file.startswith(_LIBRARIES) or any(part in file for part in _INSTALLED)


def shown_path(file: str) -> str:
    """A file's path, from the working directory if it lies there."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
