"""An event loop whose every choice comes from a seed: the next of the ready callbacks, and the time.

Time is virtual and moves only when nothing is ready. asyncio promises to run callbacks in the order in which they were
registered; here any ready one may come first, as threads, processes and networks would have it, and now and then one
is held up for a while, so that one part of a program falls behind the others. Nothing can leave the process: sockets,
signals and subprocesses are refused. Everything waiting for nothing is a failure (a deadlock found),
and so is a program that runs on without end. The recipe is FoundationDB's, as in RisingWave's madsim.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple, Unpack

from streamflow.errors import JobFailedError
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.trace import Trace

__all__ = ["PROCESS", "Crash", "SimLoop", "fulfil", "host_of"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PROCESS: Final[ContextVar[str]] = ContextVar("PROCESS", default="")
"""The name of the simulated process that a callback belongs to, where several share a loop."""

_MOST_STEPS: Final = 1_000_000
_LONGEST: Final = 86_400_000_000
_CLOSINGS: Final = 8
"""The largest number of nested `finally: await …` in a coroutine that is thrown away."""


class Crash(KeyboardInterrupt):
    """The end of the simulated process, without another word: like an interrupt, no error handling applies to it."""


@dataclass(slots=True)
class _Call:
    handle: asyncio.Handle
    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: Context


def host_of(process: str) -> str:
    """The machine of a process: one that takes another's place is on the same.

    >>> host_of("worker 1, process 2")
    'worker 1'
    """
    return process.partition(",")[0]


def fulfil(future: asyncio.Future[T], function: Callable[..., T], *args: Any) -> None:
    """Calls a function and gives its result, or the exception that it raises, to a future that is not cancelled."""
    try:
        result = function(*args)
    except Exception as error:  # noqa: BLE001 — raised where the future is awaited
        if not future.cancelled():
            future.set_exception(error)
        return
    if not future.cancelled():
        future.set_result(result)


class SimLoop(asyncio.BaseEventLoop):
    """A private, seeded event loop. `now` is virtual time in microseconds since the loop was made. Each step is held up
    with the probability `stalls`, for `stall` seconds on average.

    >>> async def race():
    ...     order = []
    ...     await asyncio.gather(*(asyncio.to_thread(order.append, n) for n in range(5)))
    ...     return order
    >>> SimLoop(4711).run(race()) == SimLoop(4711).run(race()) != SimLoop(4712).run(race())
    True
    """

    def __init__(
        self,
        seed: int | str,
        *,
        trace: Trace | None = None,
        stalls: float = 0.0,
        stall: float = 0.01,
        most_steps: int = _MOST_STEPS,
        longest: int = _LONGEST,
    ) -> None:
        self._running = False  # the base class asks for it in its constructor
        super().__init__()
        self.now = 0
        self.steps = 0
        self.stop_at: int | None = None
        """The step before which the process crashes; None for no such step."""
        self.on_step: Callable[[int], None] | None = None
        """Called before each step with its number."""
        self.reports: list[str] = []
        """Exceptions of tasks that no other task waited for."""
        self.dead: set[str] = set()
        """The processes that have been ended: nothing of them runs any more."""
        self._frozen: dict[str, list[_Call]] = {}
        """The callbacks of processes that are held up as a whole."""
        self.tasks: list[tuple[str, asyncio.Task[Any]]] = []
        """All tasks, by the process that they belong to."""
        self._chance = Chance(seed)
        self._trace = trace or Trace()
        self._stalls = stalls
        self._stall = stall
        self._most_steps = most_steps
        self._longest = longest
        self._ready: list[_Call] = []
        self._timers: list[tuple[int, int, _Call]] = []
        self._order = count()
        self._closed = False
        self._crashed = False

    # Running.

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end and returns its result. May be called again, while others' tasks still run.

        Raises the coroutine's errors; Crash if the process was ended before; JobFailedError for a deadlock, and for
        a program that takes more steps or virtual time than allowed.
        """
        asyncio._set_running_loop(self)
        self._running = True
        try:
            main = self.create_task(work)
            process = PROCESS.get()
            while not main.done():
                self._step()
                if process in self.dead:
                    raise Crash
            return main.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def crash(self) -> NoReturn:
        """Ends the process: no scheduled callback runs any more."""
        self._crashed = True
        raise Crash

    def kill(self, process: str) -> None:
        """Ends one process of several: nothing of it runs any more, no `finally` either."""
        self.dead.add(process)
        self._frozen.pop(process, None)

    def freeze(self, process: str) -> None:
        """Holds up everything of one process until it is thawed."""
        if process not in self.dead:
            self._frozen.setdefault(process, [])

    def thaw(self, process: str) -> None:
        """Lets a frozen process go on."""
        self._ready.extend(self._frozen.pop(process, ()))

    @property
    def crashed(self) -> bool:
        """Whether the process has been ended by `crash`."""
        return self._crashed

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended, of processes that have not been ended."""
        return [task for process, task in self.tasks if process not in self.dead and not task.done()]

    def abandon(self) -> None:
        """Throws away the tasks that still run. Their `finally` blocks run here, outside of any loop, without any
        effect."""
        self._closed = True
        tasks, self.tasks = self.tasks, []
        for _, task in tasks:
            coroutine: Any = task.get_coro()
            for _ in range(0 if task.done() else _CLOSINGS):
                # A `finally` that awaits keeps a coroutine from being closed at the first attempt.
                with suppress(BaseException):
                    coroutine.close()
                    break
        self._ready.clear()
        self._timers.clear()

    def _step(self) -> None:
        if self.stop_at is not None and self.steps >= self.stop_at:
            self.crash()
        if self.on_step is not None:
            self.on_step(self.steps)
        while not self._ready:
            self._advance()
        ready = self._ready
        if len(ready) > 1:
            index = self._chance.below(len(ready))
            ready[index], ready[-1] = ready[-1], ready[index]
            self._trace.choice(index)
        call = ready.pop()
        if call.handle.cancelled() or ((self.dead or self._frozen) and not self._may_run(call)):
            return
        if self._stalls and self._chance.happens(self._stalls):
            due = self.now + math.ceil(self._chance.wait(self._stall) * 1e6)
            self._trace.choice(due)
            heapq.heappush(self._timers, (due, next(self._order), call))
            return
        self.steps += 1
        if self.steps > self._most_steps:
            raise JobFailedError(
                f"the job does not come to an end: {self.steps} steps, {self.now / 1e6:.1f} s of virtual time",
                hint="something in it runs again and again",
            )
        try:
            call.context.run(call.callback, *call.args)
        except Crash:
            self._crashed = call.context.get(PROCESS, "") not in self.dead
        except Exception as error:  # noqa: BLE001 — told as an event loop tells it
            self.call_exception_handler({"message": "exception in a callback", "exception": error})
        if self._crashed:
            raise Crash

    def _may_run(self, call: _Call) -> bool:
        """Whether the process of a callback lives, and is not held up: then the callback waits."""
        process = call.context.get(PROCESS, "")
        if process in self._frozen:
            self._frozen[process].append(call)
            return False
        return process not in self.dead

    def _advance(self) -> None:
        """Moves time to the next timer and makes the due timers ready."""
        while self._timers and self._timers[0][2].handle.cancelled():
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0][0] > self._longest:
            raise JobFailedError(
                f"everything waits, and for nothing that virtual time could bring: {self._waiting()}",
                hint="a deadlock, or something that waits for the outside world",
            )
        self.now = max(self.now, self._timers[0][0])
        self._trace.choice(self.now)
        while self._timers and self._timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(self._timers)[2])

    def _waiting(self) -> str:
        names = {getattr(task.get_coro(), "__qualname__", "task") for task in self.unfinished()}
        return ", ".join(sorted(names))

    # asyncio's methods of an event loop.

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now / 1e6

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(_Call(handle, callback, args, context))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        context = copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._closed:
            # Rounded up (but not for the sake of a float's last digit), so that what is due has come.
            due = math.ceil(when * 1e6 - 1e-3) if math.isfinite(when) else self._longest + 1
            call = _Call(handle, callback, args, context)
            heapq.heappush(self._timers, (due, next(self._order), call))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(
            coro, loop=self, name=None if name is None else str(name), context=context
        )
        if not self._closed:
            process = PROCESS.get() if context is None else context.get(PROCESS, "")
            self.tasks.append((process, task))
        return task

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Runs the function on the loop after a while, as if a thread had."""
        future: asyncio.Future[T] = self.create_future()
        self.call_later(self._chance.wait(0.001), partial(fulfil, future, func, *args))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keeps an exception for the report, unless it comes from an abandoned process."""
        if not self._closed and not self._crashed:
            error = context.get("exception")
            self.reports.append(
                str(context.get("message", "")) + (f": {error!r}" if error is not None else "")
            )

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Throws away the tasks that still run."""
        self.abandon()

    def __del__(self, *args: object) -> None:
        """Does nothing: an abandoned loop is not worth a warning."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Does nothing: a cancelled timer is passed over when its time comes."""


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise JobFailedError(
        "a simulated job reached for the outside world",
        hint="sockets, signals and subprocesses cannot be repeated: simulate without them",
    )


for _name in (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "sock_connect",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(SimLoop, _name, _refuse)
