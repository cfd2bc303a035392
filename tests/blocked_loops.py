"""Event loops that were blocked: which callback of one took how much processor time, and where it was meanwhile.

Processor time and not the wall clock, so that a busy machine changes nothing: the loop's thread's own, and that of
the whole process (Polars' threads) shared out among its cores where no worker thread and no other loop had anything
to do meanwhile. The time of garbage collection is subtracted, and so is the threads' work that a test runs in the loop
(`Inline`); loops of virtual time, which do that too, are left out.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import thread as executor_threads
from dataclasses import dataclass, field
from typing import Any, Final

from streamflow.runtime.ports import Inline
from streamflow.testing import SteppedLoop

__all__ = ["BlockedLoops"]

MOST_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.05
_CORES: Final = os.cpu_count() or 1


@dataclass(slots=True)
class _Running:
    """The callback that the loop of a thread runs now, and the stack at which it was seen."""

    began: float
    stack: str = ""


@dataclass
class BlockedLoops:
    """Watches every event loop of the process between `install` and `uninstall`; `found` is what blocked one."""

    found: list[str] = field(default_factory=list[str])
    _running: dict[int, _Running] = field(default_factory=dict[int, _Running])
    _work: int = 0
    """How often a worker thread or a loop has begun something."""
    _at_work: int = 0
    _excused: dict[int, float] = field(default_factory=dict[int, float])
    """Seconds of processor time that each thread has spent collecting garbage, of which a long test has much, and with
    work that is another thread's where no test runs it."""

    def install(self) -> None:
        """Begin to watch."""
        self._handle_run = asyncio.events.Handle._run
        self._item_run = executor_threads._WorkItem.run
        self._inline_call = Inline.__call__
        handle_run, item_run, this = self._handle_run, self._item_run, self

        def run(handle: Any) -> None:
            if isinstance(handle._loop, SteppedLoop):
                handle_run(handle)
            else:
                this._watched(handle)

        def work(item: Any) -> None:
            this._work += 1
            this._at_work += 1
            try:
                item_run(item)
            finally:
                this._at_work -= 1

        async def inline(_: Inline, function: Callable[..., Any], *args: Any) -> Any:
            me, began, excused = threading.get_ident(), time.thread_time(), this._excused_seconds()
            this._work += 1
            try:
                return function(*args)
            finally:
                this._excused[me] = excused + time.thread_time() - began

        Inline.__call__ = inline  # type: ignore[method-assign,assignment]
        asyncio.events.Handle._run = run  # type: ignore[method-assign,assignment]
        executor_threads._WorkItem.run = work  # type: ignore[method-assign,assignment]
        gc.callbacks.append(self._collect)
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True, name="blocked-loops")
        self._looking.start()

    def uninstall(self) -> None:
        """Leave everything as it was."""
        asyncio.events.Handle._run = self._handle_run  # type: ignore[method-assign]
        executor_threads._WorkItem.run = self._item_run  # type: ignore[method-assign]
        Inline.__call__ = self._inline_call  # type: ignore[method-assign]
        gc.callbacks.remove(self._collect)
        self._ended.set()
        self._looking.join()

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        sign = -1 if phase == "start" else 1
        self._excused[threading.get_ident()] = self._excused_seconds() + sign * time.thread_time()

    def _excused_seconds(self) -> float:
        return self._excused.get(threading.get_ident(), 0.0)

    def _watched(self, handle: Any) -> None:
        me = threading.get_ident()
        running = self._running[me] = _Running(time.monotonic())
        self._work += 1
        work, alone = self._work, not self._at_work and len(self._running) == 1
        process, mine = time.process_time(), time.thread_time()
        excused = self._excused_seconds()
        try:
            self._handle_run(handle)
        finally:
            self._running.pop(me, None)
            # What took no time took no processor time, and the clocks of that are slow.
            if time.monotonic() - running.began > MOST_SECONDS:
                seconds = time.thread_time() - mine
                if alone and self._work == work:
                    seconds = max(seconds, (time.process_time() - process) / _CORES)
                seconds -= self._excused_seconds() - excused
                if seconds > MOST_SECONDS:
                    self.found.append(f"{seconds * 1000:.0f} ms in {handle!r}\n{running.stack}")

    def _look(self) -> None:
        """Note where a callback is that has run for a while: of one that has ended nothing can be told."""
        while not self._ended.wait(_LOOK_SECONDS):
            for thread, running in list(self._running.items()):
                if time.monotonic() - running.began > MOST_SECONDS / 2:
                    running.stack = _stack(thread)


def _stack(thread: int) -> str:
    # In a function of its own, so that nobody holds the frame, and all that is in it, any longer.
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame, limit=12))
