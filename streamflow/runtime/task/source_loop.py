"""The source task: reads splits ahead, hands their pieces to the chain in order, makes watermarks, injects barriers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from streamflow.core.elements import AnyBatch, End
from streamflow.graph.logical import Input
from streamflow.observe.logs import told
from streamflow.observe.registry import OperatorMetrics, add_counted
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import MAIN
from streamflow.operators.contract.source import Position, Source, Split, SplitReader
from streamflow.runtime.blame import blamed
from streamflow.runtime.control.assignment import SplitState
from streamflow.runtime.control.idleness import Idleness
from streamflow.runtime.control.split_alignment import DriftLimit
from streamflow.runtime.control.split_grants import SplitShare
from streamflow.runtime.ports import Blocking
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.task.read_ahead import Piece, Prefix, SplitPump
from streamflow.runtime.task.seen_times import SeenTimes
from streamflow.runtime.task.subtask import Reports, Subtask
from streamflow.runtime.waiting import Signal, until
from streamflow.time.clock import Clock
from streamflow.time.smallest import Smallest
from streamflow.time.timestamps import MAX_TIME, MIN_TIME
from streamflow.time.watermarks import BoundedDisorder, SplitWatermark, WatermarkMerger

__all__ = ["SourceTask"]

_LOG: Final = logging.getLogger("streamflow.source")
_TICK_SECONDS = 0.2
"""Seconds between two moves of the watermark while it follows processing time."""


class SourceTask:
    """A subtask fed by splits."""

    def __init__(
        self,
        subtask: Subtask,
        *,
        id: str,
        source: Source,
        open_reader: Callable[[Split, Position | None], SplitReader],
        share: SplitShare,
        prefix: Prefix,
        strategy: BoundedDisorder,
        profile: ExecutionProfile,
        read_ahead: int,
        guard: Guard,
        metrics: OperatorMetrics,
        reports: Reports,
        run_blocking: Blocking,
        clock: Clock,
        timed: bool = True,
        watermark: int = MIN_TIME,
        reached: int = MIN_TIME,
        limit: DriftLimit | None = None,
    ) -> None:
        """`watermark` is the watermark that its subtasks had in common in the restored checkpoint, `reached` the
        event time of the operators that it feeds; splits behind that had been left out."""
        self._subtask = subtask
        self._id = id
        self._bounded = source.bounded
        self._open_reader = open_reader
        self._share = share
        self._prefix = prefix
        self._strategy = strategy
        self._profile = profile
        self._read_ahead = read_ahead
        self._guard = guard
        self._metrics = metrics
        self._reports = reports
        self._run_blocking = run_blocking
        self._clock = clock
        self._timed = timed
        self._pumps: dict[str, SplitPump] = {}
        """The open splits by id, in the order in which they were opened."""
        self._fetching: set[str] = set()
        """The splits with more to fetch."""
        self._turns: Smallest[str, tuple[int, int]] = Smallest()
        """The splits that may be read on, by the key of their turn."""
        self._ended: dict[str, SplitPump] = {}
        """The splits that have been handed out to their end."""
        self._active: Smallest[str, int] = Smallest()
        """The watermarks of splits that have had an event and are not idle, if splits are aligned."""
        self._closing: set[asyncio.Task[None]] = set()
        self._marks: dict[str, SplitWatermark] = {}
        self._states: dict[str, SplitState] = {}
        self._merger = WatermarkMerger([])
        self._merger.push(watermark)
        self._reached = reached
        self._signal = Signal()
        self._last = watermark + strategy.bound + 1 if watermark > MIN_TIME else MIN_TIME
        """The largest event time so far."""
        self._times = SeenTimes()
        self._started = False
        self._barrier: int | None = None
        self._last_barrier: int | None = None
        self._stopping: bool | None = None
        self._sliced = 0
        self._idleness = Idleness(strategy.idle_after)
        self._looked = clock.monotonic()
        """The time at which the splits were looked at last."""
        self._idle_sent = False
        self._idle_since: tuple[int, int] | None = None
        self._ahead = metrics.counter(
            "streamflow_future_events_total",
            "Records whose event time was too far ahead to move the watermark",
        )
        self._limit = limit
        share.notify = self.notify
        if limit is not None:
            limit.notify = self.notify

    @property
    def held_back_by(self) -> str | None:
        """The split that holds this subtask's watermark back; records without event time hold none back."""
        holder = self._merger.holder if self._timed else None
        return None if holder is None else str(holder)

    @property
    def held_back_at(self) -> int:
        """The watermark of the split that holds this subtask's back; MIN_TIME if none does."""
        holder = self.held_back_by
        return MIN_TIME if holder is None else self._marks[holder].current

    @property
    def furthest(self) -> int:
        """The event time of the split that is furthest."""
        return max((mark.current for mark in self._marks.values()), default=MIN_TIME)

    @property
    def watermark(self) -> int:
        """The watermark here, whether or not it has been sent."""
        return self._merger.current

    def inject(self, epoch: int, *, last: bool = False) -> None:
        """Ends the epoch at the next point between two pieces; after the last one nothing more is handed on."""
        self._barrier = epoch
        self._last_barrier = epoch if last else None
        self.notify()

    def snapshot(self) -> tuple[str, Mapping[str, Any]]:
        """(source, the positions of its splits in this subtask)."""
        splits = [
            replace(
                state,
                position=pump.position or state.position,
                watermark=self._marks[id].current,
                idle=self._merger.is_idle(id),
            )
            for id, pump in self._pumps.items()
            for state in [self._states[id]]
        ]
        return self._id, {
            "splits": [state.as_values() for state in (*splits, *self._share.unopened)],
            "watermark": self._merger.current,
        }

    def stop(self, *, drain: bool) -> None:
        """Reads no more; with `drain`, open windows count as complete."""
        self._stopping = drain
        self.notify()

    def notify(self) -> None:
        """Notes that something has changed that the loop may be waiting for."""
        self._signal.set()

    async def run(self) -> None:
        """Runs until every split has been read, or until told to stop."""
        try:
            while self._stopping is None:
                self._signal.clear()
                if self._barrier is not None:
                    await self._end_epoch(self._barrier)
                if self._last_barrier is not None:
                    # It has gone out; the job ends when its checkpoint is there.
                    await self._signal.wait()
                    continue
                await self._subtask.take_turn()
                await self._subtask.fire_timers()
                if await self._open_splits():
                    await self._mark_idle()
                if self._pumps:
                    self._say_started()
                pump = self._choose() if self._share.all_started or not self._prefix.marks else None
                if pump is not None:
                    await self._emit(pump)
                    self._idleness.away(self._since_last_look())
                    if self._idleness.seconds == 0.0:
                        await self._mark_idle()
                elif self._share.exhausted and not self._pumps:
                    break
                else:
                    await self._wait()
        finally:
            await self.close()
        drained = self._stopping is not False and not self._subtask.cut
        if drained:
            watermark = max(self._merger.current, self._last - self._strategy.bound - 1)
            self._subtask.end = End(self._last, watermark, self._times.all)
            await self._subtask.advance(MAX_TIME)
        self._say_started()
        await self._subtask.finish(drained=drained)

    def _say_started(self) -> None:
        if not self._started:
            self._started = True
            self._share.start()

    async def close(self) -> None:
        """Stops reading. A caller that is cancelled meanwhile may call again, and then waits for the same closing."""
        pumps, self._pumps = self._pumps, {}
        begun = list(map(self._shut, pumps.values()))
        if self._closing:
            await asyncio.wait(self._closing)
        for closing in begun:
            closing.result()

    def _shut(self, pump: SplitPump) -> asyncio.Task[None]:
        """Closes a pump in a task of its own: cut off, it would leave connections open that no task holds any more."""
        closing = asyncio.create_task(pump.close())
        self._closing.add(closing)
        closing.add_done_callback(self._shut_down)
        return closing

    def _shut_down(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled():
            closing.exception()  # for a task that waits, if there still is one

    async def _open_splits(self) -> bool:
        """Opens the splits that are this subtask's now; returns whether one of them has nothing for now."""
        quiet = False
        # A split taken after an epoch has begun and before its barrier would be neither here nor with the assigner.
        while self._barrier is None:
            state = self._share.take(len(self._fetching))
            if state is None:
                break
            quiet = self._open(state) or quiet
            await self._subtask.take_turn()
        return quiet

    def _open(self, state: SplitState) -> bool:
        """Opens a split; returns whether it has nothing for now."""
        split = state.split
        reader = self._open_reader(split, state.position)
        notify = partial(self._news_of, split.id)
        pump = SplitPump(
            split, reader, self._prefix, self._run_blocking, depth=self._read_ahead, notify=notify
        )
        self._pumps[split.id] = pump
        self._fetching.add(split.id)
        self._states[split.id] = state
        if state.watermark > MIN_TIME:
            self._last = max(self._last, state.watermark + self._strategy.bound + 1)
        self._marks[split.id] = SplitWatermark(self._strategy, state.watermark)
        self._idleness.heard(split.id)
        _LOG.debug("split opened", extra=told(source=self._id, split=split.id))
        spoken = state.watermark > MIN_TIME or state.position is not None or state.idle
        left_out = spoken and state.watermark < self._reached
        self._merger.add(split.id, state.watermark, left_out=left_out)
        # It was the split itself that said so, and says it once.
        quiet = state.idle and self._strategy.idle_after is None
        if quiet:
            self._merger.idle(split.id)
        # While a split waited to be opened, the others went on and nothing of it was told.
        self._merger.hold(self._subtask.watermark, before=self._reached)
        self._note_turn(pump)
        self._note_active(split.id)
        return quiet

    def _news_of(self, split: str) -> None:
        """Takes a piece of a split, or its end."""
        pump = self._pumps.get(split)
        if pump is not None:
            self._note_turn(pump)
        self.notify()

    def _note_turn(self, pump: SplitPump) -> None:
        """Updates the turn of a split from its pump. Bounded splits wait for their turn, so that the order in which
        records come does not depend on which thread was faster."""
        split = pump.split.id
        if pump.exhausted:
            self._fetching.discard(split)
        if pump.finished:
            self._ended[split] = pump
            self._turns.remove(split)
        elif pump.ready or self._bounded:
            mark = self._marks[split].current if self._profile.by_watermark else 0
            self._turns.put(split, (mark, self._states[split].order))
        else:
            self._turns.remove(split)

    def _note_active(self, split: str) -> None:
        """Updates the report to other splits that are aligned with these."""
        if self._limit is None:
            return
        mark = self._marks.get(split)
        if mark is None or mark.current == MIN_TIME or self._merger.is_idle(split):
            self._active.remove(split)
        else:
            self._active.put(split, mark.current)

    def _choose(self) -> SplitPump | None:
        """The split to read on."""
        if self._profile.slice_rows is not None and self._sliced >= self._profile.slice_rows:
            return None
        first = self._turns.first
        if first is None:
            return None
        split = first[0]
        if self._limit is not None and not self._limit.allows(self._marks[split].current):
            return None
        pump = self._pumps[split]
        return pump if pump.ready else None

    async def _emit(self, pump: SplitPump) -> None:
        with blamed(self._id):
            piece = pump.take()
        split = pump.split.id
        self._count(piece)
        await self._subtask.awake()
        if piece.bad:
            self._guard.bad(piece.bad, _BadRecords(self._id, piece))
        self._merger.active(split)
        self._idleness.heard(split)
        for output, batch in piece.outputs:
            await self._subtask.deliver(output, self._placed(split, piece, batch))
        self._idle_sent = False
        self._idle_since = None
        mark = self._marks[split]
        if piece.max_time is not None:
            self._last = max(self._last, piece.max_time)
        if piece.times is not None:
            self._times.add(piece.times)
        if piece.watermark is not None:
            mark.reach(piece.watermark)
        elif piece.max_time is not None:
            mark.observe(piece.max_time)
        self._merger.advance(split, mark.current)
        self._note_turn(pump)
        self._note_active(split)
        self._align()
        await self._retire()
        await self._forward()
        if piece.idle and split in self._marks:
            self._merger.idle(split)
            self._note_active(split)
            await self._mark_idle()
        self._sliced += piece.rows
        if self._profile.slice_rows is not None and self._sliced >= self._profile.slice_rows:
            self._reports.request_epoch()
        # Lets the other tasks run: taking a piece that is ready does not give the loop a chance to.
        await asyncio.sleep(0)

    def _placed(self, split: str, piece: Piece, batch: AnyBatch) -> AnyBatch:
        """The records with the watermark right before each, if they have to carry any, as if one had been made after
        every record. The largest event time before each in the piece is known."""
        if not batch.marked:
            return batch
        if self._share.holds_watermark:
            return batch.within(self._subtask.watermark, self._subtask.watermark)
        low = max(self._subtask.watermark, self._merger.current)
        high = low if piece.watermark is not None else self._merger.beside(split)
        lag = self._strategy.bound + 1
        # Where records will be sorted, one that comes behind a later one carries nothing that would hold in order.
        return batch.within(low, high, less=lag, behind=lag if self._profile.watermarks == "end" else None)

    def _count(self, piece: Piece) -> None:
        self._metrics.records_in.add(piece.rows + len(piece.bad))
        self._metrics.bytes_in.add(piece.nbytes)
        self._metrics.records_out.add(piece.rows)
        self._metrics.bytes_out.add(piece.bytes_out)
        self._ahead.add(piece.ahead)
        add_counted(piece.counted)

    async def _retire(self) -> None:
        """Removes splits that have been read to their end: they hold nothing back any more."""
        ended, self._ended = self._ended, {}
        for split, pump in ended.items():
            if self._pumps.get(split) is not pump:
                continue
            del self._pumps[split]
            await self._open_splits()
            self._merger.remove(split)
            self._idleness.remove(split)
            _LOG.debug("split ended", extra=told(source=self._id, split=split))
            del self._marks[split], self._states[split]
            self._note_active(split)
            self._align()
            await asyncio.shield(self._shut(pump))
            self._share.end(split)

    async def _forward(self, *, epoch_end: bool = False) -> None:
        cadence = self._profile.watermarks
        if cadence == "end" or (cadence == "epoch" and not epoch_end) or self._share.holds_watermark:
            return
        current = self._merger.current
        if current < self._reached and self._merger.silent:
            # Downstream operators should not continue from a watermark that only the silent splits had reached.
            return
        if current > MIN_TIME:
            await self._subtask.advance(current)

    async def _end_epoch(self, epoch: int) -> None:
        self._barrier = None
        await self._forward(epoch_end=True)
        await self._subtask.end_epoch(epoch, self.snapshot())
        self._sliced = 0

    async def _wait(self) -> None:
        """Waits for news; meanwhile splits may become idle."""
        if await self._retire_finished():
            await self._mark_idle()
            return
        if not self._started and self._prefix.marks and self._share.discovered and not self._pumps:
            await self._mark_idle()
            self._say_started()
            return
        self._idleness.away(self._since_last_look())
        idle = self._idleness.seconds if self._idle_since is None else _TICK_SECONDS
        timeouts = [seconds for seconds in (idle, self._subtask.until_timer()) if seconds is not None]
        await until([self._signal.news], min(timeouts, default=None), self._clock)
        self._idleness.listened(self._since_last_look())
        await self._mark_idle()

    def _since_last_look(self) -> float:
        now = self._clock.monotonic()
        seconds, self._looked = now - self._looked, now
        return seconds

    def _align(self) -> None:
        if self._limit is not None:
            first = self._active.first
            self._limit.report(None if first is None else first[1])

    async def _retire_finished(self) -> bool:
        ended = bool(self._ended)
        await self._retire()
        return ended

    async def _mark_idle(self) -> None:
        quiet = self._idleness.quiet()
        if quiet:
            ready = {split for split in quiet if self._pumps[split].ready}
            for split in ready:
                # A piece that is ready waits for its turn.
                self._idleness.heard(split)
            newly = [split for split in quiet if split not in ready and not self._merger.is_idle(split)]
            self._merger.idle(*newly)
            for split in newly:
                self._note_active(split)
            self._align()
            for split in newly:
                _LOG.info("split idle", extra=told(source=self._id, split=split))
        await self._forward()
        nothing_open = self._share.discovered and not self._pumps and not self._share.exhausted
        if not (self._merger.all_idle or nothing_open) or self._share.holds_watermark:
            return
        if self._strategy.advance_when_idle and self._merger.current > MIN_TIME:
            now = self._clock.now()
            if self._idle_since is None:
                self._idle_since = (now, self._merger.current)
            since, watermark = self._idle_since
            self._merger.push(watermark + now - since)
            await self._forward()
        elif not self._idle_sent:
            self._idle_sent = True
            await self._subtask.idle()


class _BadRecords:
    """A collector for the dead letters of a piece beside its other outputs."""

    def __init__(self, source: str, piece: Piece) -> None:
        self._source = source
        self._piece = piece

    def emit(self, batch: AnyBatch) -> None:
        self.emit_to(MAIN, batch)

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        self._piece.outputs.append((Input(self._source, output), batch))

    def connected(self, output: str) -> bool:
        return True
