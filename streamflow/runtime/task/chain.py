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
    """The place of an operator's state in one subtask, and the folder for its saved files."""

    backend: KeyedStateBackend
    groups: range
    folder: Path


@dataclass(frozen=True, slots=True)
class Link:
    """An operator in its place; `logic` is None for one that has already run in the read-ahead. `keyed` is set for
    one that keeps state: its backend and the key groups that the subtask owns."""

    id: str
    logic: Operator | None
    metrics: OperatorMetrics
    keyed: Keyed | None = None
    effort: Effort | None = None
    """The cost of a record, for an operator whose functions may be slow."""


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
        """Whether records were left out because the job stops: the chain then does no more work."""
        self.left = 0
        """The number of records left out."""
        self._links = list(links)
        self._taps = [_Tap(self, position) for position in range(len(links))]
        self._outlets: dict[tuple[int, str], list[Outlet]] = {}
        for outlet in outlets:
            self._outlets.setdefault((outlet.position, outlet.output), []).append(outlet)
        self.first = first
        logic = links[first].logic if first < len(links) else None
        self.head = logic if isinstance(logic, AsyncOperator) else None
        """The first operator, if it works between elements."""
        self._halfway: tuple[int, int | None, list[tuple[int, int]]] | None = None
        """The place at which a watermark has stopped: the operator, its watermark, and the watermarks to be
        forwarded."""
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
        """Takes event time `time` at a head that works between elements; returns the watermark to pass on, None if
        it waits."""
        head = self.head
        assert head is not None
        with blamed(self._links[self.first].id):
            return head.on_watermark(time, self._taps[self.first])

    def collect(self) -> int | None:
        """Emits the head's ready output; returns the watermark that was waiting for it, if there is one."""
        head = self.head
        assert head is not None
        with blamed(self._links[self.first].id):
            return head.collect(self._taps[self.first])

    def deliver(self, position: int, output: str, batch: AnyBatch) -> None:
        """Delivers output of the operator at `position` to the readers of that output."""
        if len(batch) == 0:
            return
        if output == LATE:
            self._links[position].metrics.late.add(len(batch))
        elif position >= self.first and output != ERRORS:
            # Operators that ran in the read-ahead have been counted there.
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
        """Takes event time `time` at the head, or behind it if it has `passed` the head after waiting there.

        Returns (position, watermark) pairs to forward, `position` being that of the operator before. None: there is
        more to do; call again when the output so far has been handed on.
        """
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
        """Takes the end of event time `end`; the watermark +∞ comes next."""
        for link in self._links:
            if link.logic is not None:
                link.logic.on_end(end)

    def work_at(self, time: int, passed: bool = False) -> int:
        """The estimated number of rows that `watermark` is going to work on."""
        links = self._links[self.first + passed :]
        return sum(link.logic.work_at(time) for link in links if link.logic is not None)

    @property
    def next_processing_time(self) -> int | None:
        """The time at which the first of its operators waits for processing time."""
        times = [
            time
            for link in self._links[self.first :]
            if link.logic is not None and (time := link.logic.next_processing_time()) is not None
        ]
        return min(times, default=None)

    def processing_time(self, now: int) -> None:
        """Takes processing time `now`: operators that have waited for it go on."""
        for position in range(self.first, len(self._links)):
            link = self._links[position]
            if link.logic is None:
                continue
            due = link.logic.next_processing_time()
            if due is not None and due <= now:
                with blamed(link.id):
                    link.logic.on_processing_time(now, self._taps[position])

    def end_epoch(self, epoch: int) -> None:
        """Ends the epoch after a barrier: emits output that is due once an epoch."""
        for position in range(self.first, len(self._links)):
            link = self._links[position]
            if link.logic is None:
                continue
            with blamed(link.id):
                link.logic.on_epoch_end(epoch, self._taps[position])

    def finish(self) -> None:
        """Emits what is left after the input's end."""
        for position in range(self.first, len(self._links)):
            link = self._links[position]
            if link.logic is None:
                continue
            with blamed(link.id):
                link.logic.finish(self._taps[position])

    @property
    def stateful(self) -> list[Link]:
        """The operators that keep state, in order."""
        return [link for link in self._links if link.logic is not None and link.keyed is not None]

    def close(self) -> None:
        """Closes all operators; raises the first error."""
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
        """Waits until a head that worked between elements has released its resources."""
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
