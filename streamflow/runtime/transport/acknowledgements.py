"""Acknowledgements of what was sent over TCP: the system gives up a peer that gives none after a quarter of an hour.

Two workers that are cut off from one another alone are both heard by the coordinator: nobody else would notice.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

__all__ = ["Acknowledgements"]

_READABLE: Final = sys.platform == "linux"
_LENGTH: Final = 60
"""Bytes of Linux' `tcp_info` up to the last of these fields."""
_RETRANSMITS, _PROBES, _SINCE_ACK = 2, 3, slice(56, 60)


class Acknowledgements:
    """Those of one socket, which is looked at from time to time. Times are seconds of one monotonic clock.

    A receiver that reads nothing acknowledges that, too, in answer to the probes of its window.
    """

    def __init__(self, sock: Any, silence: float) -> None:
        """`silence` is the time without an acknowledgement after which they are missing."""
        self._socket = sock
        self._silence = silence
        self._since: float | None = None

    def missing(self, now: float) -> bool:
        """Whether what was sent has not been acknowledged for too long. Other systems than Linux do not tell."""
        if not _READABLE:
            return False
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
        heard = now - int.from_bytes(info[_SINCE_ACK], sys.byteorder) / 1_000
        if not (info[_RETRANSMITS] or info[_PROBES]):
            self._since = None
        elif self._since is None or heard > self._since:
            self._since = now
        return self._since is not None and now - self._since >= self._silence
