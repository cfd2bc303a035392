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
from streamflow.graph.logical import Input
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import ERRORS, LATE, MAIN, AsyncOperator, Operator
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.blame import blamed
from streamflow.runtime.exchange.outlet import Outlet
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.memory_share import MemoryShare
from streamflow.time.effort import Effort
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Chain", "Keyed", "Link"]


@dataclass(frozen=True, slots=True)
class Keyed:
    """The place of an operator's state in one subtask, the folder for its saved files, and its share of the memory."""

    backend: KeyedStateBackend
    groups: range
    folder: Path
    memory: MemoryShare


@dataclass(frozen=True, slots=True)
class Link:
    """An operator in its place; it gives the outputs of the logical node `node`. `keyed` is set for one that keeps
    state: its backend and the key groups that the subtask owns."""

    id: str
    node: str
    logic: Operator
    metrics: OperatorMetrics
    keyed: Keyed | None = None
    effort: Effort | None = None
    """The cost of a record, for an operator whose functions may be slow."""


class _Tap:
    """The collector of one operator in the chain."""

    __slots__ = ("_chain", "_link", "_next")

    def __init__(self, chain: Chain, link: Link, following: int) -> None:
        self._chain = chain
        self._link = link
        self._next = following

    def emit(self, batch: AnyBatch) -> None:
        self.emit_to(MAIN, batch)

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        if len(batch) == 0:
            return
        metrics = self._link.metrics
        if output == LATE:
            metrics.late.add(len(batch))
        elif output != ERRORS:
            metrics.records_out.add(len(batch))
            metrics.bytes_out.add(batch.nbytes)
        following = self._next if output == MAIN else None
        self._chain.hand_on(Input(self._link.node, output), batch, following)

    def connected(self, output: str) -> bool:
        return self._chain.connected(Input(self._link.node, output))


class Chain:
    """Operators in a row and the outlets beside them."""

    def __init__(
        self,
        links: Sequence[Link],
        outlets: Sequence[Outlet],
        *,
        entry: Input | None = None,
        hurries: Callable[[float], bool] | None = None,
    ) -> None:
        """`entry`: the output, of what ran where the data was read, that the first operator takes. `hurries`: whether
        the job stops and does not wait so many seconds."""
        self._entry = entry
        self._hurries = hurries
        self.cut = False
        """Whether records were left out because the job stops: the chain then does no more work."""
        self.left = 0
        """The number of records left out."""
        self._links = list(links)
        self.nodes = frozenset(link.node for link in links)
        """The logical nodes whose outputs its operators give."""
        self._taps = [_Tap(self, link, number + 1) for number, link in enumerate(links)]
        self._outlets: dict[Input, list[Outlet]] = {}
        for outlet in outlets:
            self._outlets.setdefault(outlet.reads, []).append(outlet)
        logic = links[0].logic if links else None
        self.head = logic if isinstance(logic, AsyncOperator) else None
        """The first operator, if it works between elements."""
        self._memory = [link.keyed.memory for link in links if link.keyed is not None]
        self._reached = [MIN_TIME] * len(links)
        """The watermark that each operator has passed on."""
        self._holding = [
            number
            for number, link in enumerate(links)
            if type(link.logic).output_watermark is not Operator.output_watermark
        ]
        """The operators that may move their output watermark by themselves."""
        self._halfway: tuple[int, int | None, list[tuple[str, int]]] | None = None
        """The place at which a watermark has stopped: the operator, its watermark, and the watermarks to be
        forwarded."""
        self.hears_inputs = (
            logic is not None and type(logic).on_input_watermark is not Operator.on_input_watermark
        )
        """Whether its first operator is told the watermark of each of its inputs."""
        self.timed = any(
            type(link.logic).next_processing_time is not Operator.next_processing_time for link in links
        )
        """Whether any of its operators may wait for processing time."""

    def connected(self, output: Input) -> bool:
        """Whether an outlet reads this output."""
        return output in self._outlets

    def process(self, batch: AnyBatch, port: int = 0) -> None:
        """Takes a batch at the head of the chain."""
        self._process(0, batch, port)

    def input_watermark(self, port: int, time: int) -> None:
        """Tells the first operator the watermark of one of its inputs."""
        with blamed(self._links[0].id):
            self._links[0].logic.on_input_watermark(port, time)

    def watermark_at_head(self, time: int) -> int | None:
        """Takes event time `time` at a head that works between elements; returns the watermark to pass on, None if
        it waits."""
        head = self.head
        assert head is not None
        with blamed(self._links[0].id):
            return self._risen(0, head.on_watermark(time, self._taps[0]))

    def collect(self) -> None:
        """Emits the head's ready output."""
        head = self.head
        assert head is not None
        with blamed(self._links[0].id):
            head.collect(self._taps[0])

    def deliver(self, output: Input, batch: AnyBatch) -> None:
        """Delivers output of what ran where the data was read; it has been counted there."""
        if len(batch):
            self.hand_on(output, batch, 0 if output == self._entry else None)

    def hand_on(self, output: Input, batch: AnyBatch, following: int | None) -> None:
        """Hands output to its outlets and to the operator `following` in the chain, if any takes it."""
        chained = following is not None and following < len(self._links)
        outlets = self._outlets.get(output, ())
        for number, outlet in enumerate(outlets, start=1):
            more = chained or number < len(outlets)
            outlet.put(copied_batch(batch) if more else batch)
        if following is not None:
            self._process(following, batch, 0)

    def watermark(self, time: int, behind: int | None = None) -> list[tuple[str, int]] | None:
        """Takes event time `time` at the head, or, if the operator at `behind` gives it, behind that one.

        Returns (node, watermark) pairs to forward for the operators that it passed. None: there is more to do; call
        again when the output so far has been handed on.
        """
        self._give_way()
        begin, forwarded = 0, list[tuple[str, int]]()
        if behind is not None:
            begin, forwarded = behind + 1, [(self._links[behind].node, time)]
        position, current, forwarded = self._halfway or (begin, time, forwarded)
        self._halfway = None
        while position < len(self._links) and current is not None:
            link = self._links[position]
            with blamed(link.id):
                reached = link.logic.on_watermark(current, self._taps[position])
                if link.logic.unfinished:
                    self._halfway = (position, current, forwarded)
                    return None
            current = self._risen(position, reached)
            if current is not None:
                forwarded.append((link.node, current))
            position += 1
        return forwarded

    def waiting(self) -> list[tuple[str, tuple[Waiting, ...]]]:
        """The next results that each operator holds back, by its id."""
        return [(link.id, link.logic.waiting()) for link in self._links]

    def moved(self) -> tuple[int, int] | None:
        """The place of an operator that has moved its output watermark by itself, and the watermark; None if none
        has."""
        for position in self._holding:
            time = self._risen(position, self._links[position].logic.output_watermark)
            if time is not None:
                return position, time
        return None

    def ends(self, end: End) -> None:
        """Takes the end of event time `end`; the watermark +∞ comes next."""
        for link in self._links:
            link.logic.on_end(end)

    def work_at(self, time: int, behind: int | None = None) -> int:
        """The estimated number of rows that `watermark` is going to work on."""
        begin = 0 if behind is None else behind + 1
        return sum(link.logic.work_at(time) for link in self._links[begin:])

    @property
    def next_processing_time(self) -> int | None:
        """The time at which the first of its operators waits for processing time."""
        times = [time for link in self._links if (time := link.logic.next_processing_time()) is not None]
        return min(times, default=None)

    def processing_time(self, now: int) -> None:
        """Takes processing time `now`: operators that have waited for it go on."""
        for link, tap in zip(self._links, self._taps, strict=True):
            due = link.logic.next_processing_time()
            if due is not None and due <= now:
                with blamed(link.id):
                    link.logic.on_processing_time(now, tap)

    def end_epoch(self, epoch: int) -> None:
        """Ends the epoch after a barrier: emits output that is due once an epoch."""
        self._give_way()
        for link, tap in zip(self._links, self._taps, strict=True):
            with blamed(link.id):
                link.logic.on_epoch_end(epoch, tap)

    def finish(self) -> None:
        """Emits what is left after the input's end."""
        for link, tap in zip(self._links, self._taps, strict=True):
            with blamed(link.id):
                link.logic.finish(tap)

    @property
    def stateful(self) -> list[Link]:
        """The operators that keep state, in order."""
        return [link for link in self._links if link.keyed is not None]

    def close(self) -> None:
        """Closes all operators; raises the first error."""
        errors: list[StreamflowError] = []
        for link in self._links:
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
            with blamed(self._links[0].id):
                await self.head.released()

    def _give_way(self) -> None:
        """Makes room for other subtasks, if they need it: watermarks and barriers come also where no records do."""
        for memory in self._memory:
            memory.give_way()

    def _risen(self, position: int, time: int | None) -> int | None:
        """The output watermark of an operator, if it is higher than before."""
        if time is None or time <= self._reached[position]:
            return None
        self._reached[position] = time
        return time

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
        link.metrics.records_in.add(len(batch))
        link.metrics.bytes_in.add(batch.nbytes)
        with blamed(link.id):
            link.logic.process_batch(batch, port, self._taps[position])
