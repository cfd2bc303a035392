"""Read-ahead: pieces of a split are decoded, and run through the pure operators behind the source, on threads.

Several pieces are in flight at once and are handed to the source task in order, each with what the task needs to know
of it: its largest event time, the counts for metrics, the records that could not be decoded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, WATERMARK
from streamflow.errors import JobFailedError, RecordError, StreamflowError, Where
from streamflow.graph.logical import Input
from streamflow.observe.registry import Metric, counted_later
from streamflow.operators.contract.operator import ERRORS, LATE, MAIN
from streamflow.operators.contract.source import Fetch, Position, Split, SplitReader
from streamflow.runtime.blame import blamed
from streamflow.runtime.ports import Blocking
from streamflow.runtime.task.chain import Link
from streamflow.time.clock import Clock
from streamflow.time.effort import Effort
from streamflow.time.timestamps import MIN_TIME
from streamflow.user_code import awaited_failure, described, line_of_error, raised_by_user

__all__ = ["Piece", "Prefix", "SplitPump"]

_INLINE_BYTES = 32_768
"""A hundred Python records of a few fields are 20,000."""
_RECORD_BYTES = 100


@dataclass(slots=True)
class Piece:
    """A decoded piece of a split. `outputs` are in the order in which they were put out."""

    position: Position
    outputs: list[tuple[Input, AnyBatch]]
    max_time: int | None
    rows: int
    nbytes: int
    bytes_out: int
    bad: list[RecordError]
    ahead: int
    """The number of records whose event time was too far ahead to move the watermark."""
    watermark: int | None = None
    """The split's own watermark, in place of `max_time`."""
    idle: bool = False
    """Whether the split has nothing more for now."""
    counted: Sequence[tuple[Metric, float]] = ()
    """Numbers to be added to metrics."""
    times: pl.Series | None = None
    """The event times of its records, if a process will put them in order."""


@dataclass(slots=True)
class _Recorder:
    """The collector of one pure operator for one piece."""

    node: str
    is_connected: Callable[[Input], bool]
    outputs: list[tuple[str, AnyBatch]] = field(default_factory=list[tuple[str, AnyBatch]])

    def emit(self, batch: AnyBatch) -> None:
        self.outputs.append((MAIN, batch))

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        self.outputs.append((output, batch))

    def connected(self, output: str) -> bool:
        return self.is_connected(Input(self.node, output))


class Prefix:
    """The pure operators behind a source. Safe to run on several threads: it keeps nothing between two pieces."""

    def __init__(
        self,
        source: str,
        links: Sequence[Link],
        *,
        connected: Callable[[Input], bool],
        max_ahead: int,
        clock: Clock,
        marks: bool = False,
        times: bool = False,
    ) -> None:
        """`marks`: records have to carry the largest event time before them in the piece. `times`: the piece has to
        give the event times of all its records, too."""
        self._times = times
        self.marks = marks
        self.clock = clock
        self.links = list(links)
        self._stamped = bool(links) and links[0].node == source
        """Whether the first operator is the source's own: it gives the records their event times."""
        self.end = Input(links[-1].node if links else source)
        """The output that leaves the last operator."""
        self._connected = connected
        self._max_ahead = max_ahead

    def run(self, split: Split, fetch: Fetch) -> Piece:
        """Decodes a piece and runs it through the operators. Counts are added when the piece's turn comes."""
        with counted_later() as counted:
            piece = self._run(split, fetch)
        piece.counted = counted
        return piece

    def _run(self, split: Split, fetch: Fetch) -> Piece:
        try:
            decoded = fetch.decode()
        except StreamflowError as error:
            raise error.at(Where(split=split.id)) from error.__cause__
        except BaseException as raised:
            # A StopIteration or a panic of Polars would be lost between this thread and who waits for it.
            cause = raised_by_user(raised)
            where = Where(split=split.id, code=line_of_error(cause))
            raise JobFailedError(described(cause), where=where) from raised
        piece = Piece(
            position=fetch.position,
            outputs=[],
            max_time=None,
            rows=len(decoded.batch),
            nbytes=fetch.nbytes,
            bad=list(decoded.bad),
            ahead=0,
            bytes_out=decoded.batch.nbytes,
            watermark=decoded.watermark,
            idle=decoded.idle,
        )
        for bad in piece.bad:
            bad.at(Where(split=split.id))
        batch = decoded.batch if self._stamped else self._timed(decoded.batch, piece)
        try:
            self._pass(0, batch, piece)
        except StreamflowError as error:
            raise error.at(Where(split=split.id)) from error.__cause__
        piece.outputs = [
            (output, _read_from(split, batch) if output.output == ERRORS else batch)
            for output, batch in piece.outputs
        ]
        return piece

    def _pass(self, position: int, batch: AnyBatch, piece: Piece) -> None:
        if self._stamped and position == 1:
            batch = self._timed(batch, piece)
        if len(batch) == 0:
            return
        if position == len(self.links):
            piece.outputs.append((self.end, batch))
            return
        link = self.links[position]
        recorder = _Recorder(link.node, self._connected)
        with blamed(link.id):
            link.logic.process_batch(batch, 0, recorder)
        metrics = link.metrics
        metrics.records_in.add(len(batch))
        metrics.bytes_in.add(batch.nbytes)
        for output, part in recorder.outputs:
            if output not in (LATE, ERRORS):
                metrics.records_out.add(len(part))
                metrics.bytes_out.add(part.nbytes)
        for output, part in recorder.outputs:
            if output == MAIN:
                self._pass(position + 1, part, piece)
            else:
                piece.outputs.append((Input(link.node, output), part))

    def _timed(self, batch: AnyBatch, piece: Piece) -> AnyBatch:
        """Notes the largest event time; returns the records, with the largest event time before each if they have to
        carry it."""
        largest = batch.max_time
        if largest is None:
            return batch
        limit = self.clock.now() + self._max_ahead
        if self.marks:
            batch = _marked(batch, limit, MIN_TIME if piece.max_time is None else piece.max_time)
        if self._times:
            piece.times = _times(batch) if piece.times is None else piece.times.append(_times(batch))
        if largest > limit:
            largest, ahead = _within(batch, limit)
            piece.ahead += ahead
        if largest is not None:
            piece.max_time = largest if piece.max_time is None else max(piece.max_time, largest)
        return batch


def _read_from(split: Split, letters: AnyBatch) -> AnyBatch:
    """The dead letters with their split, which the operators do not know."""
    assert isinstance(letters, FrameBatch)
    return FrameBatch(letters.frame.with_columns(pl.col("split").fill_null(split.id)))


def _times(batch: AnyBatch) -> pl.Series:
    if isinstance(batch, RowBatch):
        return pl.Series(EVENT_TIME, batch.times, dtype=pl.Int64).unique()
    return batch.frame[EVENT_TIME].to_physical().unique()


def _marked(batch: AnyBatch, limit: int, before: int) -> AnyBatch:
    """The records with the largest event time up to `limit` before each, `before` for the first."""
    if isinstance(batch, RowBatch):
        assert batch.times is not None
        counted = (time if time <= limit else before for time in batch.times[:-1])
        return RowBatch(batch.values, batch.times, list(accumulate(counted, max, initial=before)))
    time = pl.col(EVENT_TIME).to_physical()
    counted_times = pl.when(time <= limit).then(time).otherwise(before)
    mark = counted_times.shift(1, fill_value=before).clip(lower_bound=before).cum_max()
    return FrameBatch(batch.frame.with_columns(mark.cast(EVENT_TIME_TYPE).alias(WATERMARK)))


def _within(batch: AnyBatch, limit: int) -> tuple[int | None, int]:
    """The largest event time up to `limit`, and the number of records beyond it."""
    if isinstance(batch, RowBatch):
        times = batch.times or ()
        near = [time for time in times if time <= limit]
        return (max(near) if near else None), len(times) - len(near)
    assert isinstance(batch, FrameBatch)
    bound = pl.lit(limit, dtype=pl.Int64).cast(EVENT_TIME_TYPE)
    kept = batch.frame.filter(pl.col(EVENT_TIME) <= bound)
    return FrameBatch(kept).max_time, batch.frame.height - kept.height


class SplitPump:
    """Keeps up to `depth` pieces of one split in flight and hands them out in order."""

    def __init__(
        self,
        split: Split,
        reader: SplitReader,
        prefix: Prefix,
        run_blocking: Blocking,
        *,
        depth: int,
        notify: Callable[[], None],
    ) -> None:
        self.split = split
        self.position: Position | None = None
        self.exhausted = False
        self._reader = reader
        self._prefix = prefix
        self._run_blocking = run_blocking
        self._effort = Effort(prefix.clock)
        self._depth = depth
        self._notify = notify
        self._pieces: deque[asyncio.Future[Piece]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._task = asyncio.get_running_loop().create_task(self._pump())

    @property
    def ready(self) -> bool:
        """Whether `take` gives a piece, or raises, at once."""
        return self._pieces[0].done() if self._pieces else self._error is not None

    @property
    def finished(self) -> bool:
        """Whether the split has been read and handed out to its end."""
        return self.exhausted and not self._pieces and self._error is None

    def take(self) -> Piece:
        """The next piece; raises the errors of reading and decoding it."""
        if not self._pieces:
            assert self._error is not None
            raise self._error
        piece = self._pieces.popleft().result()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self.position = piece.position
        return piece

    async def close(self) -> None:
        """Stops reading; pieces in flight are dropped."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for future in self._pieces:
            future.cancel()
        await asyncio.gather(*self._pieces, return_exceptions=True)
        await self._reader.close()

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        depth = self._depth
        try:
            while True:
                while len(self._pieces) >= depth:
                    self._room = loop.create_future()
                    await self._room
                fetch = await self._reader.fetch()
                if fetch is None:
                    break
                future: asyncio.Future[Piece]
                # How many records a piece has shows when it is decoded.
                records = 1 + fetch.nbytes // _RECORD_BYTES
                if 0 < fetch.nbytes <= _INLINE_BYTES and not self._effort.large(records):
                    # A hop to a thread and back costs more than so little work. Nothing is won by having several of
                    # these ready either: what comes meanwhile is better fetched as one larger piece.
                    depth = 1
                    future = loop.create_future()
                    try:
                        future.set_result(self._effort.run(records, self._prefix.run, self.split, fetch))
                    except Exception as error:  # noqa: BLE001 — raised where the piece is taken
                        future.set_exception(error)
                else:
                    depth = self._depth
                    work = self._run_blocking(self._effort.run, records, self._prefix.run, self.split, fetch)
                    future = asyncio.ensure_future(work)
                self._pieces.append(future)
                if future.done():
                    self._notify()
                else:
                    future.add_done_callback(lambda _: self._notify())
        except StreamflowError as error:
            self._error = error.at(Where(split=self.split.id))
        except BaseException as error:  # noqa: BLE001 — raised where the next piece is taken
            self._error = awaited_failure(error)
        self.exhausted = True
        self._notify()
