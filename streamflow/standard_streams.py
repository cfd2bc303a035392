"""The file numbers 0 to 2 of standard input, output and error; some programs are started without them."""

from __future__ import annotations

import os

__all__ = ["occupy_standard_streams"]


def occupy_standard_streams() -> None:
    """Opens closed standard streams on the null device.

    Otherwise the next opened file gets the number, and with it all printed text; an event loop of uvloop's with such
    a number aborts the program when it is closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one, as those below it are open.
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
