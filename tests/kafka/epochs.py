"""Runs of a job as its Kafka sink sees them: epochs are written, sealed, committed; they die where they are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.contract.sink import Committable, SinkContext
from streamflow.runtime.ports import Inline
from streamflow.time.clock import SeededRandom, SystemClock

__all__ = ["POINTS", "ROWS", "CrashError", "Run", "Stopped", "rows"]

POINTS = ("kafka.fenced", "kafka.marker_read", "kafka.begun", "kafka.sent", "kafka.committed")
ROWS = StreamType(Schema({"k": pl.String, "n": pl.Int64}), timed=False)

_tokens = iter(range(1_000_000))


class CrashError(Exception):
    """The process is gone."""


def rows(*numbers: int) -> FrameBatch:
    frame = {"k": [f"k{n % 5}" for n in numbers], "n": numbers}
    return FrameBatch(pl.DataFrame(frame, schema={"k": pl.String, "n": pl.Int64}))


class Run:
    """One run of the job: its writer and its committer. `crash_at` names the point at which it dies."""

    def __init__(
        self,
        sink: KafkaSink,
        *,
        job: str | None = None,
        line: str = "line",
        restored: int | None = None,
        parent: int | None = None,
        checkpointed: bool = True,
        allow_duplicates: bool = False,
        crash_at: str | None = None,
        reach: Callable[[str], None] | None = None,
        end_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        self.reached: list[str] = []
        self._crash_at = crash_at
        self._reach = reach
        self.context = SinkContext(
            operator_id="write-1",
            subtask=0,
            parallelism=1,
            clock=SystemClock(),
            random=SeededRandom(next(_tokens)),
            run_blocking=Inline(),
            job=job or sink.topic,
            line=line,
            restored=restored,
            restored_parent=parent,
            checkpointed=checkpointed,
            allow_duplicates=allow_duplicates,
            reach=self._at,
            end_epoch=end_epoch,
        )
        self.writer = sink.writer(ROWS, self.context)
        self.committer = sink.committer(self.context)
        assert self.committer is not None

    def _at(self, point: str) -> None:
        self.reached.append(point)
        if self._reach is not None:
            self._reach(point)
        if point == self._crash_at:
            raise CrashError(point)

    async def seal(self, epoch: int, *numbers: int) -> Sequence[Committable]:
        """The committables that go into the checkpoint."""
        if numbers:
            await self.writer.write(rows(*numbers))
        return await self.writer.prepare(epoch)

    async def epoch(self, epoch: int, *numbers: int) -> None:
        """Write, seal and commit."""
        await self.committer.commit(epoch, await self.seal(epoch, *numbers))

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *_: object) -> None:
        # As the end of its process would: nothing is committed or aborted by it.
        await self.committer.close()
        await self.writer.close()


class Stopped:
    """Work on a thread and a loop of its own that stands still at a point, like a process after SIGSTOP, until it is
    continued."""

    def __init__(self, point: str) -> None:
        self._point = point
        self._there = threading.Event()
        self._go_on = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def reach(self, point: str) -> None:
        if point == self._point and not self._there.is_set():
            self._there.set()
            assert self._go_on.wait(60)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin, and return when it stands still."""

        def run() -> None:
            try:
                asyncio.run(work())
            except BaseException as error:  # noqa: BLE001 — the test says what it should have been
                self._error = error
                self._there.set()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self._there.wait(60)

    def go_on(self) -> BaseException | None:
        """Continue it to its end; what it raised."""
        assert self._thread is not None
        self._go_on.set()
        self._thread.join(90)
        assert not self._thread.is_alive()
        return self._error
