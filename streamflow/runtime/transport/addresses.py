"""Addresses of workers: `unix:/folder/name` or `tcp:host:port`, where a listener may give a range of ports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamflow.runtime.transport.port import TransportError

__all__ = ["TcpAddress", "UnixAddress", "parse_address", "tcp"]

_LONGEST: Final = 103
"""Bytes of a path that every system's sockets take."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in a folder that only its owner may enter."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def make_folder(self) -> None:
        """Makes the folder; raises TransportError if others than this user may enter it, or the path is too long."""
        if len(os.fsencode(self.path)) > _LONGEST:
            raise TransportError(
                f"the path of a socket has more than {_LONGEST} bytes: {self.path}",
                hint="use a shorter folder",
            )
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.stat()
        except OSError as error:
            raise TransportError(f"{folder} cannot be made: {error}") from error
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise TransportError(
                f"others may enter {folder}, where workers would meet", hint="give a folder of mode 0700"
            )


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and the ports to try, of which 0 stands for any free one."""

    host: str
    ports: range

    def __str__(self) -> str:
        first, last = self.ports[0], self.ports[-1]
        return tcp(self.host, f"{first}" if first == last else f"{first}-{last}")

    def at(self, port: int) -> TcpAddress:
        """The same host with one port."""
        return TcpAddress(self.host, range(port, port + 1))


def tcp(host: str, ports: str) -> str:
    """The text of an address; `ports` is one port or a range of them.

    >>> tcp("::1", "7000-7010")
    'tcp:[::1]:7000-7010'
    """
    return f"tcp:[{host}]:{ports}" if ":" in host else f"tcp:{host}:{ports}"


def parse_address(text: str) -> UnixAddress | TcpAddress:
    """An address from its text; raises TransportError for any other.

    >>> str(parse_address("tcp:[::1]:7000-7010")), str(parse_address("unix:/tmp/s/0"))
    ('tcp:[::1]:7000-7010', 'unix:/tmp/s/0')
    """
    kind, _, place = text.partition(":")
    if kind == "unix" and place.startswith("/"):
        return UnixAddress(Path(place))
    host, _, ports = place.rpartition(":")
    first, _, last = ports.partition("-")
    if kind == "tcp" and host and first.isdecimal() and (last or first).isdecimal():
        found = range(int(first), int(last or first) + 1)
        if found and found[-1] < 1 << 16:
            return TcpAddress(host.removeprefix("[").removesuffix("]"), found)
    raise TransportError(
        f"no address of a worker: {text!r}", hint="write unix:/path, tcp:host:port or tcp:host:first-last"
    )
