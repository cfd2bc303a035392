"""Starting workers: the port that starts one, and the one that starts it as a process of this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from streamflow.config import cores
from streamflow.runners.processes.control_link import ORPHANED
from streamflow.runners.processes.socket_folder import COORDINATOR, make_socket_folder
from streamflow.runners.program import Program
from streamflow.runtime.control.membership import Member
from streamflow.runtime.transport.tls import Tls

__all__ = ["Introduction", "Starter", "Subprocesses", "WorkerProcess"]

_PACKAGES: Final = Path(__file__).resolve().parents[3]
"""The folder in which this package is."""
_BEGIN: Final = """\
import os, signal
NUMBERS = signal.SIGINT, signal.SIGTERM
for number in NUMBERS:
    signal.signal(number, lambda *_: None)
    signal.siginterrupt(number, False)
os.register_at_fork(after_in_child=lambda: [signal.signal(number, signal.SIG_DFL) for number in NUMBERS])
import runpy, sys
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""
"""The first lines of a worker: a terminal or a supervisor sends its signals to every process of the job, and the
coordinator decides what they mean, from the start on. The signals are not ignored, since processes of functions would
inherit that."""
_LIKELY: Final = {
    "SIGKILL": ": from outside, or by the system for the memory that it took",
    "SIGSEGV": ": a library that a function of the job calls has crashed",
    "SIGABRT": ": a library that a function of the job calls has given up",
}
"""The usual causes of signals."""


class Introduction(msgspec.Struct, frozen=True):
    """The introduction of a worker when it starts: its place, and the secret by which all processes know one another.
    `silence` is in seconds. Addresses are like `unix:/path` or `tcp:host:port`."""

    place: int
    process: int
    secret: str
    silence: float
    max_frame: int
    """Bytes of the largest frame that another worker may send."""
    log_level: str
    program: Program | None
    """The job; None: the starter hands over the job's graph."""
    values: dict[str, str] = {}
    """The digests of what the job holds and its functions use, by name, if workers import the job."""
    tls: Tls | None = None
    lz4: bool = False
    coordinator: str = ""
    """The coordinator's address, which the pool fills in."""
    data: str = ""
    """The address at which the worker listens for others, which the starter fills in."""

    def __repr__(self) -> str:
        return f"Introduction(worker {self.place}, process {self.process})"

    def of(self, member: Member) -> Introduction:
        """The introduction of another process."""
        return replace(self, place=member.place, process=member.process)


class WorkerProcess(Protocol):
    """A worker that has been started."""

    @property
    def shown(self) -> str:
        """The process for messages, like "process 4711"."""
        ...

    async def ended(self) -> str:
        """Waits for its end, and says how that was."""
        ...

    def kill(self) -> None:
        """Ends it at once; does nothing if it has ended."""
        ...


class Starter(Protocol):
    """Starts workers; `open` first, `close` last."""

    async def open(self, workers: int) -> str:
        """Makes room for so many workers; gives the address at which the coordinator is to listen for them. Raises
        ConfigError if that is impossible."""
        ...

    async def start(self, introduction: Introduction) -> WorkerProcess:
        """Starts one; does not wait until it is up. Raises ConfigError or OSError if that is impossible."""
        ...

    async def close(self) -> None:
        """Lets go of everything, once all workers have ended; also if `open` failed."""
        ...


class Subprocesses:
    """Starts workers as processes of this machine, with this interpreter and this environment.

    The introduction goes in by stdin, where no other process sees it.
    """

    def __init__(self, module: str, *, share: int) -> None:
        """`module` is the one that a worker runs; so many processes share the cores."""
        self._module = module
        # Each process has Polars' threads.
        threads = str(max(1, cores() // share))
        self._environment = {"POLARS_MAX_THREADS": threads, **os.environ}
        self._folder: str | None = None
        """Where the coordinator and the workers have their sockets."""

    async def open(self, workers: int) -> str:
        self._folder = await asyncio.to_thread(make_socket_folder)
        return f"unix:{self._folder}/{COORDINATOR}"

    async def close(self) -> None:
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def start(self, introduction: Introduction) -> WorkerProcess:
        data = Path(f"{self._folder}/worker-{introduction.place}-{introduction.process}")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _BEGIN,
            self._module,
            stdin=asyncio.subprocess.PIPE,
            # Modules of the user's working directory must not stand in for those that the worker needs to start.
            cwd=_PACKAGES,
            env=self._environment,
        )
        assert process.stdin is not None
        told = msgspec.msgpack.encode(replace(introduction, data=f"unix:{data}"))
        process.stdin.write(len(told).to_bytes(4, "big") + told)
        with suppress(ConnectionError):  # its end tells more
            await process.stdin.drain()
        return _Subprocess(process, data)


class _Subprocess:
    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self._process = process
        self._socket = socket

    @property
    def shown(self) -> str:
        return f"process {self._process.pid}"

    async def ended(self) -> str:
        code = await self._process.wait()
        self._socket.unlink(missing_ok=True)  # one that was killed has left it
        if code == ORPHANED:
            return f"{self.shown} ended itself, since it had lost its coordinator"
        if code >= 0:
            return f"{self.shown} ended with exit code {code}; a function of the job may have ended it"
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return f"{self.shown} was ended by {name}{_LIKELY.get(name, '')}"
        return f"{self.shown} was ended by signal {-code}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
