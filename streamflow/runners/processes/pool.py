"""The pool of a job's workers: starts their processes, replaces those that die or fall silent, carries messages.

`Membership` decides, this module does: it starts and ends processes, watches them and their connections, and tells the
present attempt of what concerns it. A process that lives keeps what it has imported from one attempt to the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from msgspec.structs import replace

from streamflow.errors import ConfigError, StreamflowError
from streamflow.observe.logs import told
from streamflow.runners.processes.control_port import Connection, Server
from streamflow.runners.processes.starting import Introduction, Starter, WorkerProcess
from streamflow.runners.processes.versions import check_versions
from streamflow.runtime.control import membership as decided
from streamflow.runtime.control.membership import Instruction, Member, Membership
from streamflow.runtime.control.messages import (
    Alive,
    Beat,
    Cancel,
    Deploy,
    FromCoordinator,
    FromProcess,
    FromWorker,
    Hello,
    Leave,
    LetGo,
    Logged,
    PeerLost,
    Pulse,
    Raised,
)
from streamflow.runtime.relayed_logs import log_of
from streamflow.time.clock import Clock

__all__ = ["Crew", "WorkerLostError", "WorkerPool", "WorkerStartError"]

_LOG: Final = logging.getLogger("streamflow.workers")
_PULSE: Final = 1.0
"""Seconds between two words to each worker."""
_NOTICE: Final = 0.5
"""Seconds that the end of a connection waits for the end of its process, which says more."""
_PATIENCE: Final = 10.0
"""Seconds in which a worker has to let go of an attempt."""
_START: Final = 120.0
"""Seconds in which every worker has to be up."""


class WorkerLostError(StreamflowError):
    """A worker has died, or has not been heard for too long."""


class WorkerStartError(StreamflowError):
    """A worker was never up."""


class Crew(Protocol):
    """An attempt as the pool sees it. Everything is called on the event loop."""

    def deploy(self, place: int, attempt: int, addresses: Sequence[str]) -> Deploy:
        """The part of the worker in a place; `addresses` are those of all workers for one another."""
        ...

    def hear(self, place: int, message: FromWorker | PeerLost) -> None:
        """Takes in a worker's message of the attempt."""
        ...

    def beat(self, place: int, beat: Beat) -> None:
        """Takes in a worker's figures."""
        ...

    def let_go(self, place: int, message: LetGo) -> None:
        """Notes that a worker has let go of the attempt."""
        ...

    def failed(self, error: StreamflowError) -> None:
        """Notes that a worker was lost."""
        ...


class WorkerPool:
    """The workers of one job; `open` first, then `begin` and `end` for each attempt, `close` last."""

    def __init__(
        self,
        workers: int,
        starter: Starter,
        server: Server,
        introduction: Introduction,
        *,
        clock: Clock,
    ) -> None:
        """`introduction` is the first worker's: the others' differ in their places."""
        self.workers = workers
        self._starter = starter
        self._server = server
        self._introduction = introduction
        self._clock = clock
        self._membership = Membership(workers, silence=introduction.silence, patience=_PATIENCE)
        self._processes: dict[Member, WorkerProcess] = {}
        self._connections: dict[Member, Connection] = {}
        self._hellos: dict[Member, Hello] = {}
        self._unfit: dict[int, str] = {}
        """Ends of processes that never came up, by place."""
        self._refused: StreamflowError | None = None
        """The reason why a worker cannot have the job, before an attempt that it could fail."""
        self._crew: Crew | None = None
        self._begun: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def fenced(self) -> int:
        """The number of messages that were of an attempt or of a process that did not count any more."""
        return self._membership.fenced

    async def open(self) -> None:
        """Starts the processes; does not wait until they are up. Raises ConfigError if there is no room for them."""
        await self._server.open(await self._starter.open(self.workers), self._joined)
        self._introduction = replace(self._introduction, coordinator=self._server.address)
        for place in range(self.workers):
            await self._start(self._membership.present(place))
        self._do(self._keep_time())

    async def begin(self, crew: Crew) -> int:
        """Begins an attempt on all workers as soon as all are up; gives its number."""
        if self._refused is not None:
            raise self._refused
        self._crew = crew
        self._begun = begun = asyncio.get_running_loop().create_future()
        for place in list(self._unfit):
            del self._unfit[place]
            await self._start(self._membership.present(place))
        self._carry_out(self._membership.ask(self._clock.monotonic()))
        limit = asyncio.ensure_future(self._clock.sleep(_START))
        try:
            await asyncio.wait({begun, limit}, return_when=asyncio.FIRST_COMPLETED)
            if not begun.done():
                missing = [
                    place
                    for place in range(self.workers)
                    if self._membership.present(place) not in self._hellos
                ]
                raise WorkerStartError(
                    f"workers {', '.join(map(str, missing))} were not up after {_START:g} s",
                    hint="see what they wrote on stderr",
                )
            begun.result()
        finally:
            limit.cancel()
            self._begun = None
        return self._membership.attempt

    async def end(self) -> None:
        """Ends the attempt on all workers; returns when no process runs anything of it any more."""
        self._over = over = asyncio.get_running_loop().create_future()
        self._carry_out(self._membership.end(self._clock.monotonic()))
        if self._membership.runs:
            await over
        self._crew = self._over = None

    async def resize(self, workers: int) -> None:
        """Goes on with another number of workers between two attempts; those that stay keep what they have imported."""
        gone = [self._membership.present(place) for place in range(workers, self.workers)]
        new = range(self.workers, workers)
        self._membership.resize(workers)
        self.workers = workers
        for member in gone:
            self._unfit.pop(member.place, None)
            self._forget(member)
        for place in new:
            await self._start(self._membership.present(place))

    async def close(self) -> None:
        """Ends all processes."""
        self._closing = True
        for connection in self._connections.values():
            connection.send(0, Leave())
        ending = [asyncio.ensure_future(process.ended()) for process in self._processes.values()]
        if ending:
            limit = asyncio.ensure_future(self._clock.sleep(_PULSE))
            await asyncio.wait(
                {asyncio.ensure_future(asyncio.wait(ending)), limit}, return_when=asyncio.FIRST_COMPLETED
            )
            limit.cancel()
        for process in self._processes.values():
            process.kill()
        await asyncio.gather(*ending, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close()
        await self._starter.close()

    def tell(self, place: int | None, message: FromCoordinator) -> None:
        """Sends a message of the present attempt to one worker, None: to all."""
        for at in range(self.workers) if place is None else [place]:
            connection = self._connections.get(self._membership.present(at))
            if connection is not None:
                connection.send(self._membership.attempt, message)

    def host(self, place: int) -> str:
        """The name of the host of the worker in a place, which is up."""
        return self._hellos[self._membership.present(place)].host

    # Processes.

    async def _start(self, member: Member) -> None:
        introduction = self._introduction.of(member)
        try:
            process = await self._starter.start(introduction)
        except OSError as error:
            raise ConfigError(
                f"worker {member.place} cannot be started: {error.strerror or error}"
            ) from error
        self._processes[member] = process
        self._do(self._watch(member, process))

    async def _watch(self, member: Member, process: WorkerProcess) -> None:
        why = await process.ended()
        self._processes.pop(member, None)
        if not self._closing:
            self._gone(member, why)

    def _gone(self, member: Member, why: str) -> None:
        """A process has ended, or its connection has."""
        if member.place >= self.workers or self._membership.present(member.place) != member:
            return
        if member not in self._hellos:
            self._unfit[member.place] = why
        self._carry_out(self._membership.gone(member, self._clock.monotonic(), why))
        if member not in self._hellos and self._begun is not None and not self._begun.done():
            lost = WorkerStartError(
                f"worker {member.place} was never up: {why}", hint="see what it wrote on stderr"
            )
            self._begun.set_exception(lost)

    def _forget(self, member: Member) -> None:
        self._hellos.pop(member, None)
        connection = self._connections.pop(member, None)
        if connection is not None:
            connection.close()
        process = self._processes.get(member)
        if process is not None:
            process.kill()

    async def _keep_time(self) -> None:
        """Gives up the silent ones, and lets each worker hear that the coordinator lives."""
        while True:
            now = self._clock.monotonic()
            self._carry_out(self._membership.tick(now))
            for connection in list(self._connections.values()):
                connection.send(0, Pulse())
            due = self._membership.due
            await self._clock.sleep(_PULSE if due is None else min(_PULSE, max(0.0, due - now)))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Messages.

    def _joined(self, hello: Hello, connection: Connection) -> None:
        """A worker has opened its connection."""
        member = Member(hello.place, hello.process)
        if not 0 <= member.place < self.workers or self._membership.present(member.place) != member:
            connection.close()
            return
        self._connections[member], self._hellos[member] = connection, hello
        self._do(self._carry(member, connection))
        facts = told(worker=member.place, pid=hello.pid, host=hello.host)
        _LOG.info("worker is up", extra=facts)
        try:
            check_versions(hello)
        except ConfigError as error:
            self._unable(error)
            return
        self._carry_out(self._membership.hello(member, self._clock.monotonic()))

    async def _carry(self, member: Member, connection: Connection) -> None:
        why = await connection.carry(lambda attempt, message: self._heard(member, attempt, message))
        if not self._closing:
            await self._clock.sleep(_NOTICE)
            self._gone(member, why)

    def _heard(self, member: Member, attempt: int, message: FromProcess) -> None:
        if member.place >= self.workers:
            return
        now = self._clock.monotonic()
        match message:
            case Alive():
                self._membership.alive(member, now)
            case Logged():
                log_of(message, member.place)
            case LetGo():
                if attempt == self._membership.attempt and self._crew is not None:
                    self._crew.let_go(member.place, message)
                self._carry_out(self._membership.let_go(member, attempt, now))
            case Beat():
                # The last figures of an attempt come when it is over.
                self._membership.alive(member, now)
                if attempt == self._membership.attempt and self._crew is not None:
                    self._crew.beat(member.place, message)
            case Raised() if attempt == 0:
                self._unable(message.error)
            case Hello():  # it has been said
                ...
            case _:
                if self._membership.heard(member, attempt, now) and self._crew is not None:
                    self._crew.hear(member.place, message)

    def _unable(self, error: BaseException) -> None:
        """A worker cannot have the job."""
        if self._begun is not None and not self._begun.done():
            self._begun.set_exception(error)
        elif isinstance(error, StreamflowError):
            self._refused = error
            if self._crew is not None:
                self._crew.failed(error)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case decided.Deploy(member, attempt):
                    self._deploy(member, attempt)
                case decided.Failed(attempt, member, why):
                    self._failed(attempt, member, why)
                case decided.Cancel(member, attempt):
                    connection = self._connections.get(member)
                    if connection is not None:
                        connection.send(attempt, Cancel())
                case decided.Replace(member, by):
                    self._forget(member)
                    if member.place not in self._unfit and not self._closing:
                        self._do(self._start(by))
                case decided.Over():
                    if self._over is not None and not self._over.done():
                        self._over.set_result(None)

    def _deploy(self, member: Member, attempt: int) -> None:
        assert self._crew is not None
        addresses = [self._hellos[self._membership.present(place)].address for place in range(self.workers)]
        self._connections[member].send(attempt, self._crew.deploy(member.place, attempt, addresses))
        if self._begun is not None and not self._begun.done():
            self._begun.set_result(None)

    def _failed(self, attempt: int, member: Member | None, why: str) -> None:
        if member is None:
            return
        _LOG.warning("worker lost", extra=told(worker=member.place, attempt=attempt, why=why))
        if self._crew is not None:
            with suppress(asyncio.InvalidStateError):
                self._crew.failed(WorkerLostError(f"worker {member.place} was lost: {why}"))
