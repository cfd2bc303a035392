"""The numbers 0 to 2 of standard input, output and error, which some programs are started without."""

from __future__ import annotations

import os

__all__ = ["occupy_standard_streams"]


def occupy_standard_streams() -> None:
    """Open those that are closed on nothing. Otherwise the next file gets the number, and what is printed with it; an
    event loop of uvloop's that has one aborts the program when it is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one, as those below it are open.
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
