"""Hosts that can be cut off: network namespaces of this machine, each joined to it by a cable that can be pulled.

Needs root, and Linux' `ip`. The coordinator is where it was started, at an address of its own; a worker is started on a
host that is not cut off, and cannot be ended from elsewhere, like one behind a network that is down.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec.structs import replace

from streamflow.runners.processes.starting import Introduction, WorkerProcess

PREFIX = "rsf"
COORDINATOR = "10.77.0.1"
HOSTS = 5
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_NOBODY = "02:00:00:00:00:99"


def ip(*words: str, check: bool = True) -> None:
    """Runs `ip` with these words."""
    subprocess.run(["ip", *words], check=check, capture_output=True)


def address(host: int) -> str:
    """The address of a host's end of its cable."""
    return f"10.77.{host}.2"


def host_of(pid: int) -> int | None:
    """The host that a process is on; None if it has ended."""
    try:
        found = subprocess.run(
            ["ip", "netns", "identify", str(pid)], capture_output=True, text=True, check=True
        )
        return int(found.stdout.strip().removeprefix(PREFIX))
    except (subprocess.CalledProcessError, ValueError):
        return None


def _nowhere(host: int) -> str:
    return f"10.77.{host}.99"


def _change(host: int, kind: str, link: str, route: str) -> None:
    if kind == "all":
        ip("link", "set", f"{PREFIX}{host}n", link)
    elif kind == "deaf":
        ip("route", route, f"{address(host)}/32", "via", _nowhere(host))
    else:
        to = COORDINATOR if kind == "unheard" else address(int(kind))
        ip("-n", f"{PREFIX}{host}", "route", route, f"{to}/32", "via", _nowhere(host))


class Hosts:
    """The hosts, numbered from 1, and the cuts between them. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._cuts = folder
        self._forwarded = ""

    def __enter__(self) -> "Hosts":
        self._remove()
        self._cuts.mkdir(parents=True, exist_ok=True)
        self._forwarded = _FORWARD.read_text()
        _FORWARD.write_text("1")
        ip("link", "add", PREFIX, "type", "bridge")
        ip("addr", "add", f"{COORDINATOR}/32", "dev", PREFIX)
        ip("link", "set", PREFIX, "up")
        for host in range(1, HOSTS + 1):
            space, near, far = f"{PREFIX}{host}", f"{PREFIX}{host}n", f"{PREFIX}{host}f"
            ip("netns", "add", space)
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
            ip("addr", "add", f"10.77.{host}.1/24", "dev", near)
            ip("link", "set", near, "up")
            ip("-n", space, "addr", "add", f"{address(host)}/24", "dev", far)
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "link", "set", far, "up")
            ip("-n", space, "route", "add", "default", "via", f"10.77.{host}.1")
            # Nobody has this address of the wire: what goes there is lost without a word.
            ip("neigh", "add", _nowhere(host), "lladdr", _NOBODY, "dev", near, "nud", "permanent")
            ip("-n", space, "neigh", "add", _nowhere(host), "lladdr", _NOBODY, "dev", far, "nud", "permanent")
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()
        _FORWARD.write_text(self._forwarded)

    def _remove(self) -> None:
        for host in range(1, HOSTS + 1):
            ip("link", "del", f"{PREFIX}{host}n", check=False)
            ip("netns", "del", f"{PREFIX}{host}", check=False)
        ip("link", "del", PREFIX, check=False)

    def cut(self, host: int, kind: str) -> None:
        """Cuts a host off: `all`, both ways and silently; `unheard`, what it sends to the coordinator is lost; `deaf`,
        what is sent to it is lost; or the number of another host, to which nothing goes any more."""
        if not kind.isdecimal():  # else the host itself is in order
            (self._cuts / str(host)).touch()
        _change(host, kind, "down", "add")

    def heal(self, host: int, kind: str) -> None:
        """Takes the cut back."""
        _change(host, kind, "up", "del")
        (self._cuts / str(host)).unlink(missing_ok=True)


class OnHosts:
    """Starts workers on hosts: on the one with the fewest that is not cut off."""

    def __init__(self, module: str, cuts: Path) -> None:
        self._module = module
        self._cuts = cuts
        self._busy: dict[int, set[int]] = {host: set() for host in range(1, HOSTS + 1)}

    async def open(self, workers: int) -> str:
        """The coordinator's address."""
        return f"tcp:{COORDINATOR}:0"

    async def close(self) -> None:
        """Nothing is open."""

    async def start(self, introduction: Introduction) -> WorkerProcess:
        free = [host for host in self._busy if not (self._cuts / str(host)).exists()]
        host = min(free, key=lambda each: len(self._busy[each]))
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", f"{PREFIX}{host}", sys.executable, "-m", self._module,
            stdin=asyncio.subprocess.PIPE, env={"POLARS_MAX_THREADS": "1", **os.environ},
        )  # fmt: skip
        assert process.stdin is not None
        told = msgspec.msgpack.encode(replace(introduction, data=f"tcp:{address(host)}:0"))
        process.stdin.write(len(told).to_bytes(4, "big") + told)
        self._busy[host].add(process.pid)
        return _FarProcess(process, self._busy[host])


class _FarProcess:
    def __init__(self, process: asyncio.subprocess.Process, busy: set[int]) -> None:
        self._process = process
        self._busy = busy

    @property
    def shown(self) -> str:
        return f"process {self._process.pid}"

    async def ended(self) -> str:
        code = await self._process.wait()
        self._busy.discard(self._process.pid)
        return f"{self.shown} ended with exit code {code}"

    def kill(self) -> None:
        """Does nothing: it is elsewhere."""
