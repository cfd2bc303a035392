"""The surroundings of a command, made fit for it: closed streams, encodings that lack characters, widths of terminals.

A closed stdout is no reason to fail, nor may its number be taken by the next file that is opened. A character that a
stream's encoding lacks is written as an escape, like \\xe4.
"""

from __future__ import annotations

import os
import shutil
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from streamflow.standard_streams import occupy_standard_streams

__all__ = ["make_fit"]

_NARROWEST: Final = 40
"""The smallest width for help texts and plans; a narrower terminal wraps longer lines."""


def make_fit() -> None:
    """Opens closed standard streams on the null device, makes every character writable, and corrects COLUMNS.

    To be called before any other file is opened.
    """
    occupy_standard_streams()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we live
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = os.environ.get("COLUMNS", "")
    if given and not given.isdecimal():
        del os.environ["COLUMNS"]
    if shutil.get_terminal_size().columns < _NARROWEST or (given.isdecimal() and int(given) < _NARROWEST):
        os.environ["COLUMNS"] = str(_NARROWEST)
