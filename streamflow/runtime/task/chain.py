"""A chain: the operators of one subtask, one feeding the next by a plain call. Synchronous; the task awaits around it.

Depth first: what an operator emits has gone through the whole rest of the chain before the operator goes on, so that
everything a watermark triggers leaves before the watermark does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamflow.core.copies import copied_batch
from streamflow.core.elements import AnyBatch, End
from streamflow.errors import StreamflowError
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import ERRORS, LATE, MAIN, AsyncOperator, Operator
from streamflow.runtime.blame import blamed
from streamflow.runtime.exchange.outlet import Outlet
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.time.effort import Effort

__all__ = ["Chain", "Keyed", "Link"]


@dataclass(frozen=True, slots=True)
class Keyed:
    """Where an operator's subtask keeps state, and the folder for what is saved of it."""

    backend: KeyedStateBackend
    groups: range
    folder: Path


@dataclass(frozen=True, slots=True)
class Link:
    """An operator in its place; `logic` is None for one that has already run where the data was read. `keyed` is set
    for one that keeps state: its backend and the key groups that the subtask owns."""

    id: str
    logic: Operator | None
    metrics: OperatorMetrics
    keyed: Keyed | None = None
    effort: Effort | None = None
    """What a record costs, of an operator whose functions may be slow."""


class _Tap:
    """The collector of one operator in the chain."""

    __slots__ = ("_chain", "_position")

    def __init__(self, chain: Chain, position: int) -> None:
        self._chain = chain
        self._position = position

    def emit(self, batch: AnyBatch) -> None:
        self._chain.deliver(self._position, MAIN, batch)

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        self._chain.deliver(self._position, output, batch)

    def connected(self, output: str) -> bool:
        return self._chain.connected(self._position, output)


class Chain:
    """Operators in a row and the outlets beside them; `first` is the first that runs here."""

    def __init__(
        self,
        links: Sequence[Link],
        outlets: Sequence[Outlet],
        *,
        first: int = 0,
        hurries: Callable[[float], bool] | None = None,
    ) -> None:
        """`hurries`: whether the job stops and does not wait so many seconds."""
        self._hurries = hurries
        self.cut = False
        """Whether records were left out because the job stops: then it does no more."""
        self.left = 0
        """How many."""
        self._links = list(links)
        self._taps = [_Tap(self, position) for position in range(len(links))]
        self._outlets: dict[tuple[int, str], list[Outlet]] = {}
        for outlet in outlets:
            self._outlets.setdefault((outlet.position, outlet.output), []).append(outlet)
        self.first = first
        logic = links[first].logic if first < len(links) else None
        self.head = logic if isinstance(logic, AsyncOperator) else None
        """The first operator, where its work goes on between elements."""
        self._halfway: tuple[int, int | None, list[tuple[int, int]]] | None = None
        """Where a watermark has stopped: the operator, what it was told, and what is to be forwarded."""
        self.timed = any(
            link.logic is not None
            and type(link.logic).next_processing_time is not Operator.next_processing_time
            for link in links
        )
        """Whether any of its operators may wait for processing time."""

    def connected(self, position: int, output: str) -> bool:
        """Whether an outlet reads this output."""
        return (position, output) in self._outlets

    def process(self, batch: AnyBatch, port: int = 0) -> None:
        """Take a batch at the head of the chain."""
        self._process(self.first, batch, port)

    def watermark_at_head(self, time: int) -> int | None:
        """Event time has reached `time` at a head whose work goes on; the watermark to pass on, None if it waits."""
        head = self.head
        assert head is not None
        with blamed(self._links[self.first].id):
            return head.on_watermark(time, self._taps[self.first])

    def collect(self) -> int | None:
        """Put out what the head has ready; the watermark that was waiting for it, if there is one."""
        head = self.head
        assert head is not None
        with blamed(self._links[self.first].id):
            return head.collect(self._taps[self.first])

    def deliver(self, position: int, output: str, batch: AnyBatch) -> None:
        """What the operator at `position` put out goes to whatever reads it."""
        if len(batch) == 0:
            return
        if output == LATE:
            self._links[position].metrics.late.add(len(batch))
        elif position >= self.first and output != ERRORS:
            # What ran where the data was read has been counted there.
            self._links[position].metrics.records_out.add(len(batch))
            self._links[position].metrics.bytes_out.add(batch.nbytes)
        chained = output == MAIN and position + 1 < len(self._links)
        outlets = self._outlets.get((position, output), ())
        for number, outlet in enumerate(outlets, start=1):
            more = chained or number < len(outlets)
            outlet.put(copied_batch(batch) if more else batch)
        if chained:
            self._process(position + 1, batch, 0)

    def watermark(self, time: int, passed: bool = False) -> list[tuple[int, int]] | None:
        """Event time has reached `time` at the head, or has `passed` it, having waited there; (position, watermark)
        pairs to forward, what came in as the position before. None: there is more to come; call again when what has
        come has been handed on."""
        begin = self.first + passed
        position, current, forwarded = self._halfway or (begin, time, [(begin - 1, time)])
        self._halfway = None
        while position < len(self._links):
            link = self._links[position]
            if link.logic is not None and current is not None:
                with blamed(link.id):
                    reached = link.logic.on_watermark(current, self._taps[position])
                    if link.logic.unfinished:
                        self._halfway = (position, current, forwarded)
                        return None
                current = reached
                if current is not None:
                    forwarded.append((position, current))
            position += 1
        return forwarded

    def ends(self, end: End) -> None:
        """The watermark goes to +∞ next; event time had come to `end`."""
        for link in self._links:
            if link.logic is not None:
                link.logic.on_end(end)

    def work_at(self, time: int, passed: bool = False) -> int:
        """About how many rows `watermark` is going to work on."""
        links = self._links[self.first + passed :]
        return sum(link.logic.work_at(time) for link in links if link.logic is not None)

    @property
    def next_processing_time(self) -> int | None:
        """When the first of its operators waits for processing time."""
        times = [
            time
            for link in self._links[self.first :]
            if link.logic is not None and (time := link.logic.next_processing_time()) is not None
        ]
        return min(times, default=None)

    def processing_time(self, now: int) -> None:
        """Processing time has come to `now`: those that have waited for it go on."""
        for position in range(self.first, len(self._links)):
            link = self._links[position]
            if link.logic is None:
                continue
            due = link.logic.next_processing_time()
            if due is not None and due <= now:
                with blamed(link.id):
                    link.logic.on_processing_time(now, self._taps[position])

    def end_epoch(self, epoch: int) -> None:
        """A barrier has come: whatever is due once an epoch."""
        for position in range(self.first, len(self._links)):
            link = self._links[position]
            if link.logic is None:
                continue
            with blamed(link.id):
                link.logic.on_epoch_end(epoch, self._taps[position])

    def finish(self) -> None:
        """The input has ended: whatever is left."""
        for position in range(self.first, len(self._links)):
            link = self._links[position]
            if link.logic is None:
                continue
            with blamed(link.id):
                link.logic.finish(self._taps[position])

    @property
    def stateful(self) -> list[Link]:
        """Those that keep state, in order."""
        return [link for link in self._links if link.logic is not None and link.keyed is not None]

    def close(self) -> None:
        """Release what operators hold, each of them; raises the first error of one."""
        errors: list[StreamflowError] = []
        for link in self._links:
            if link.logic is not None:
                try:
                    with blamed(link.id):
                        link.logic.close()
                except StreamflowError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    async def released(self) -> None:
        """Wait until a head whose work went on between elements has let go of what it held."""
        if self.head is not None:
            with blamed(self._links[self.first].id):
                await self.head.released()

    def _process(self, position: int, batch: AnyBatch, port: int) -> None:
        if position >= len(self._links):
            return
        link = self._links[position]
        if link.effort is None:
            self._hand(link, position, batch, port)
            return
        done, total = 0, len(batch)
        while not self.cut and (done < total or not total):
            stop = min(total, done + link.effort.portion)
            part = batch if stop - done == total else batch.part(done, stop)
            link.effort.run(len(part), self._hand, link, position, part, port)
            done = stop
            if done == total:
                return
            if self._hurries is not None and self._hurries(link.effort.seconds(total - done)):
                self.cut = True
                self.left += total - done

    def _hand(self, link: Link, position: int, batch: AnyBatch, port: int) -> None:
        assert link.logic is not None
        link.metrics.records_in.add(len(batch))
        link.metrics.bytes_in.add(batch.nbytes)
        with blamed(link.id):
            link.logic.process_batch(batch, port, self._taps[position])
