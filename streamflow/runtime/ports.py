"""The ports of a job run: time, randomness, disk, threads. The simulator passes others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any, Protocol, TypeVar

from streamflow.config import Settings
from streamflow.disk import Disk, LocalDisk
from streamflow.runtime.open_files import allow_open_files
from streamflow.runtime.waiting import outlasting
from streamflow.time.clock import Clock, Randomness, SeededRandom, SystemClock

__all__ = ["Blocking", "Inline", "Ports", "Threads"]

T = TypeVar("T")
Item = TypeVar("Item")


class Blocking(Protocol):
    """Runs functions that take long, or that block, beside the event loop."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T: ...


class Threads:
    """A pool of threads; Polars and file I/O release the GIL.

    A caller that is cancelled while a function runs waits for its end: a checkpoint that a failed run is still
    publishing must not appear after the next run has looked for one.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"streamflow-{name}")

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        running = self._pool.submit(function, *args)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            # A call that had not begun by then never will.
            ended = asyncio.wrap_future(running)
            await outlasting(ended)
            if not ended.cancelled():
                ended.exception()  # or asyncio would warn about an exception never retrieved
            raise

    async def droppable(self, function: Callable[..., T], *args: Any) -> T:
        """Runs a function whose only effect is its result: a cancelled caller does not wait for its end."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def each(self, function: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
        """The results for all items, in order, several at a time. Blocks until the last has ended, also where one has
        failed, whose exception it raises; not to be called on a thread of this pool, which might wait for itself."""
        running = [self._pool.submit(function, item) for item in items]
        wait_for(running)
        return [each.result() for each in running]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Inline:
    """Runs everything at once in the calling task: for tests, where the order has to be the same each time."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    async def droppable(self, function: Callable[..., T], *args: Any) -> T:
        return await self(function, *args)

    def each(self, function: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
        return [function(item) for item in items]

    def close(self) -> None:
        """Closes nothing."""


def _nothing(point: str) -> None:
    """Does nothing; stands in if no test watches the points at which a crash would matter."""


class Ports:
    """All ports of one run. Each pool has threads of its own, so that none waits for the work of another: `decoding`
    reads and decodes input, `output` is the sinks', `state` saves and restores what subtasks keep, `uploads` stores and
    fetches checkpoints, `cpu` runs the operators' larger batches. A given `io` stands for all of them but `cpu`.

    `reach` is called with the name of each step at which a crash would matter: tests crash there.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        random: Randomness | None = None,
        disk: Disk | None = None,
        io: Threads | Inline | None = None,
        cpu: Threads | Inline | None = None,
        io_threads: int = 4,
        cpu_threads: int = 2,
        reach: Callable[[str], None] = _nothing,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.random: Randomness = random or SeededRandom()
        self.disk: Disk = disk or LocalDisk()
        self.reach = reach
        self.decoding = io or Threads(io_threads, "decoding")
        self.output = io or Threads(io_threads, "output")
        self.state = io or Threads(io_threads, "state")
        self.uploads = io or Threads(io_threads, "uploads")
        self.cpu = cpu or Threads(cpu_threads, "cpu")

    @classmethod
    def of(cls, settings: Settings) -> Ports:
        """The machine's own ports, with as many threads and open files as a run by these settings can use."""
        allow_open_files()
        return cls(io_threads=settings.io_threads, cpu_threads=max(2, settings.parallelism))

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self.decoding, self.output, self.state, self.uploads, self.cpu):
            pool.close()
