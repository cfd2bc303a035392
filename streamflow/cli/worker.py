"""The program of a worker's process: takes its introduction from stdin, imports the job, and serves the coordinator.

The runner of several processes starts it, users do not; an actor of Ray calls `work`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final, NoReturn

import msgspec

from streamflow.api.physical import physical_plan
from streamflow.api.running import run_on_loop
from streamflow.cli.loading import NoJobError, load
from streamflow.config import Secret, Settings
from streamflow.errors import ConfigError, StreamflowError
from streamflow.graph.logical import LogicalGraph
from streamflow.runners.processes.control_link import ORPHANED, ControlLink
from streamflow.runners.processes.process_metrics import ProcessMetrics
from streamflow.runners.processes.service import WorkerService
from streamflow.runners.processes.starting import Introduction
from streamflow.runners.processes.versions import own_versions
from streamflow.runners.program import Program
from streamflow.runners.used_values import check_values, used_values
from streamflow.runtime.control.messages import Hello, Raised
from streamflow.runtime.ports import Ports
from streamflow.runtime.relayed_logs import LogRelay, relayed
from streamflow.runtime.transport.port import TransportError
from streamflow.runtime.transport.sockets import SocketTransport

__all__ = ["imported", "main", "work"]

_MOST: Final = 16 << 20
"""Bytes of the longest introduction."""
_INTERRUPTED: Final = 130
"""The exit code of a program that an interrupt has ended."""


def main(ports: Callable[[Settings], Ports] | None = None) -> int:
    """Runs until the coordinator tells the worker to leave, or is lost; gives the exit code. `ports` makes the ports of
    its attempts, for tests."""
    introduction = _introduced()
    if introduction.program is not None:
        with suppress(OSError):  # the folder may be gone
            os.chdir(introduction.program.folder)
    try:
        work(introduction, ports=ports)
    except TransportError as error:
        print(f"worker {introduction.place} ends: {error}", file=sys.stderr)
        return ORPHANED
    except KeyboardInterrupt:  # of a function: nobody else can have raised it
        print(f"worker {introduction.place} ends: a function raised KeyboardInterrupt", file=sys.stderr)
        return _INTERRUPTED
    return 0


def work(
    introduction: Introduction,
    graph: LogicalGraph | None = None,
    *,
    ports: Callable[[Settings], Ports] | None = None,
) -> None:
    """Serves the coordinator until it says that the worker may leave; `graph` is the job's if the introduction names no
    program. Raises TransportError if the coordinator cannot be reached; ends the process if it is lost later."""
    link = ControlLink(
        introduction.coordinator,
        Secret(introduction.secret),
        silence=introduction.silence,
        tls=introduction.tls,
    )
    with ExitStack() as held:
        failure = None
        try:
            if introduction.program is not None:
                graph = imported(introduction.program, held)
                check_values(used_values(graph), introduction.values)
        except StreamflowError as error:
            failure = error
        relay = LogRelay(lambda: _relay(relay, link))
        with relayed(relay, introduction.log_level):
            run_on_loop(_serve(introduction, link, graph, failure, ports or Ports.of))
    link.close()


def _relay(relay: LogRelay, link: ControlLink) -> None:
    for logged in relay.take():
        link.send(0, logged)


def _introduced() -> Introduction:
    """The introduction that the runner has written to stdin."""
    length = int.from_bytes(sys.stdin.buffer.read(4), "big")
    if not 0 < length <= _MOST:
        raise SystemExit("this program is started by the runner of several processes")
    introduction = msgspec.msgpack.decode(sys.stdin.buffer.read(length), type=Introduction)
    # A function that reads stdin would wait for ever.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    return introduction


def imported(program: Program, held: ExitStack) -> LogicalGraph:
    """The graph of the program's job, whose file is imported; it is `held` as long as errors may show lines of it.
    Raises ConfigError if workers do not find the job there."""
    sys.path[:] = [*program.search, *(each for each in sys.path if each not in program.search)]
    sys.argv = list(program.arguments)
    path = held.enter_context(program.at_hand())
    try:
        job, _ = load(f"{path}:{program.name}", program.given, told=False, package=program.package)
    except NoJobError as error:
        raise ConfigError(
            f"workers import {path}, and find no job {program.name!r} in it",
            hint="make it at the top level of the file, and leave no more than the line that runs it under "
            'if __name__ == "__main__":, which is true in the first process only',
        ) from error
    return job.graph


async def _serve(
    introduction: Introduction,
    link: ControlLink,
    graph: LogicalGraph | None,
    failure: StreamflowError | None,
    ports: Callable[[Settings], Ports],
) -> None:
    """Serves the coordinator until it says that the worker may leave."""
    transport = SocketTransport(
        Secret(introduction.secret),
        max_frame=introduction.max_frame,
        lz4=introduction.lz4,
        tls=introduction.tls,
        silence=introduction.silence,
    )
    await transport.listen(introduction.data)
    service = WorkerService(
        graph or LogicalGraph("", ()),
        physical_plan,
        transport,
        ports,
        link.send,
        ProcessMetrics(lambda: transport.fenced),
    )
    link.open(asyncio.get_running_loop(), service.hear)
    hello = Hello(
        introduction.place,
        introduction.process,
        os.getpid(),
        platform.node(),
        transport.address,
        own_versions(),
    )
    link.send(0, hello)
    if failure is not None:
        link.send(0, Raised(failure))
    await service.run()
    await transport.close()


def _leave(code: int) -> NoReturn:
    """Ends the process without unloading its libraries one by one: that takes a second, for which the coordinator would
    have to wait, or end the process before what was printed is out."""
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  # users' libraries may have registered some
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
