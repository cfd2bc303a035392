"""Assembling a worker's parts: subtasks with their chains, channels and outlets out of a physical plan.

With a checkpoint to continue from, every operator gets its share of it, and every source its splits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from streamflow.graph.logical import Input
from streamflow.graph.physical import ExchangeKind, PhysicalEdge, PhysicalTask
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import OperatorContext, StatePart
from streamflow.runtime.blame import blamed, taking_up
from streamflow.runtime.checkpoints.restoring import SourceStart
from streamflow.runtime.control.messages import FromWorker
from streamflow.runtime.control.split_alignment import DriftLimit
from streamflow.runtime.control.split_grants import SplitShare
from streamflow.runtime.deployment import Deployment
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.exchange.channel_memory import ChannelMemory
from streamflow.runtime.exchange.outlet import ChannelOutlet, Outlet, SinkOutlet
from streamflow.runtime.exchange.routes import route_for
from streamflow.runtime.task.chain import Chain, Keyed, Link
from streamflow.runtime.task.loop import Task
from streamflow.runtime.task.metrics import TaskMetrics
from streamflow.runtime.task.read_ahead import Prefix
from streamflow.runtime.task.source_loop import SourceTask
from streamflow.runtime.task.subtask import Reports, Subtask
from streamflow.runtime.task.turns import Turns
from streamflow.runtime.transport.port import Sender
from streamflow.runtime.waiting import all_of
from streamflow.state.backends.factory import growing_backend
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.memory_share import MemoryShare
from streamflow.time.effort import Effort
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Assembly"]


class Assembly:
    """The parts of one worker; `build` makes them. `reports` is what the subtasks report to, `send` brings messages to
    the coordinator."""

    def __init__(self, deployment: Deployment, reports: Reports, send: Callable[[FromWorker], None]) -> None:
        self._deployment = deployment
        self._plan = deployment.plan
        self._profile = deployment.profile
        self._settings = deployment.settings
        self._ports = deployment.ports
        self._registry = deployment.registry
        self._restored = deployment.restored
        self._reports = reports
        self._send = send
        by_watermark = deployment.profile.watermarks != "end"
        self._aligned = {each for those in self._plan.aligned_sources() for each in those if by_watermark}
        self._channels: list[dict[tuple[int, int], Channel]] = []
        """The channels of each edge of the plan to subtasks here, by the numbers of the upper and the lower subtask."""
        self._senders: list[dict[tuple[int, int], Sender]] = []
        """The same for channels from subtasks here to subtasks elsewhere."""
        self._channel_memory = ChannelMemory(deployment.settings.channel_bytes)
        self._turns = Turns(self._ports.clock)
        self._event_times: dict[str, int] = {}
        self._to_restore: list[tuple[Link, list[StatePart]]] = []
        """The shares that operators have to be restored from."""
        self.subtasks: list[Subtask] = []
        self.subtasks_of: dict[str, list[Subtask]] = {}
        """Subtasks by task id."""
        self.loops: list[Task | SourceTask] = []
        self.sources: dict[str, list[SourceTask]] = {}
        """The source tasks of each task that reads."""
        self.shares: dict[str, dict[int, SplitShare]] = {}
        """The share of each subtask of a source in the source's splits, by source."""
        self.limits: dict[str, list[DriftLimit]] = {}
        """The drift limits of the splits of each subtask of a source, by source, if there are any."""
        self.backends: list[KeyedStateBackend] = []
        """All backends, to be closed."""
        self.keyed: list[KeyedStateBackend] = []
        """The backends of operators that keep state."""

    async def build(self) -> None:
        """Makes all parts; on the event loop, since tasks belong to it, which others use in between."""
        for number, edge in enumerate(self._plan.edges):
            uppers = self._plan.task(edge.upper).parallelism
            channel = self._channels_of(edge, uppers)
            channels: dict[tuple[int, int], Channel] = {}
            senders: dict[tuple[int, int], Sender] = {}
            for i in range(uppers):
                for j in self._lower(edge, i):
                    self._join(number, (i, j), channel, channels, senders)
                await asyncio.sleep(0)
            self._channels.append(channels)
            self._senders.append(senders)
        for task in self._plan.tasks:
            untimed = self._plan.untimed_ports(task.id)
            endless = self._plan.endless_ports(task.id) if untimed else frozenset[int]()
            for index in self._deployment.subtasks(task):
                self._build_subtask(task, index, untimed, endless)
                await asyncio.sleep(0)

    async def connect(self) -> None:
        """Opens the channels to subtasks elsewhere, whose workers expect them by now."""
        await all_of(sender.open() for senders in self._senders for sender in senders.values())

    def restore(self) -> None:
        """Gives every operator its share; blocks."""
        for link, parts in self._to_restore:
            with taking_up(link.id, self._deployment.epoch):
                link.logic.restore(parts)
        self._to_restore.clear()

    @property
    def source_tasks(self) -> list[SourceTask]:
        """The tasks of every source."""
        return [task for tasks in self.sources.values() for task in tasks]

    @property
    def tasks(self) -> list[Task]:
        """The tasks that are fed by channels."""
        return [loop for loop in self.loops if isinstance(loop, Task)]

    def _join(
        self,
        edge: int,
        between: tuple[int, int],
        channel: Callable[[], Channel],
        channels: dict[tuple[int, int], Channel],
        senders: dict[tuple[int, int], Sender],
    ) -> None:
        """Makes the ends that are here of the channel between two subtasks."""
        site, (upper, lower) = self._deployment.site, between
        if site is None or site.owns(lower):
            channels[between] = channel()
            if site is not None and not site.owns(upper):
                site.expect(edge, upper, lower, channels[between])
        elif site.owns(upper):
            senders[between] = site.sender(edge, upper, lower)

    def _lower(self, edge: PhysicalEdge, upper: int) -> Sequence[int]:
        """The lower subtasks that an upper one sends to."""
        forward = edge.exchange is ExchangeKind.FORWARD
        return (upper,) if forward else range(self._plan.task(edge.lower).parallelism)

    def _upper(self, edge: PhysicalEdge, lower: int) -> Sequence[int]:
        """The upper subtasks that a lower one receives from."""
        forward = edge.exchange is ExchangeKind.FORWARD
        return (lower,) if forward else range(self._plan.task(edge.upper).parallelism)

    def _channels_of(self, edge: PhysicalEdge, senders: int) -> Callable[[], Channel]:
        """Makes a channel of an edge. All senders of an exchange share its room, since a batch is divided among
        channels, too."""
        share = 1 if edge.exchange is ExchangeKind.FORWARD else senders
        # A user's function may be slow all at once: the smaller the batch, the sooner that is noticed.
        merges = not any(operator.spec.calls_functions for operator in self._plan.task(edge.lower).chain)
        return partial(
            Channel,
            port=edge.port,
            sender=edge.reads.node,
            max_rows=max(1, self._settings.channel_rows // share),
            max_bytes=max(1, self._settings.channel_bytes // share),
            memory=self._channel_memory,
            merges=merges,
        )

    def _build_subtask(
        self, task: PhysicalTask, index: int, untimed: frozenset[int], endless: frozenset[int]
    ) -> None:
        outlets = [*self._channel_outlets(task, index), *self._sink_outlets(task, index)]
        links = [self._link(task, index, position) for position in range(len(task.chain))]
        members = [link.metrics for link in links]
        if task.source is not None:
            members.insert(0, self._registry.operator(task.source.id, index))
        ahead, here = links[: task.read_ahead], links[task.read_ahead :]
        entry = None if task.source is None else Input(ahead[-1].node if ahead else task.source.id)
        chain = Chain(here, outlets, entry=entry, hurries=self._reports.hurries)
        subtask = Subtask(
            f"{task.id}-{index}",
            chain,
            outlets,
            reports=self._reports,
            index=index,
            run_blocking=self._ports.cpu.droppable,
            io=self._ports.state,
            clock=self._ports.clock,
            turns=self._turns,
            metrics=TaskMetrics(members, self._ports.clock),
            counted=[*members, *(self._registry.operator(sink.id, index) for sink in task.sinks)],
            portions=any(operator.spec.calls_functions for operator in task.chain[task.read_ahead :]),
            epoch=self._deployment.epoch,
            reach=self._ports.reach,
        )
        self.subtasks.append(subtask)
        self.subtasks_of.setdefault(task.id, []).append(subtask)
        if task.source is None:
            reads = task.marks or any(operator.spec.reads_watermarks for operator in task.chain)
            marks = reads and self._profile.watermarks != "end"
            self.loops.append(
                Task(
                    subtask,
                    self._inbox(task, index),
                    clock=self._ports.clock,
                    untimed=untimed,
                    endless=endless,
                    marks=marks,
                    restored=self._event_time_at(task),
                )
            )
            return
        source_task = self._source_task(task, index, subtask, ahead, chain)
        self.loops.append(source_task)
        self.sources.setdefault(task.id, []).append(source_task)

    def _inbox(self, task: PhysicalTask, index: int) -> Inbox:
        return Inbox(
            [
                channels[upper, index]
                for edge, channels in zip(self._plan.edges, self._channels, strict=True)
                if edge.lower == task.id
                for upper in self._upper(edge, index)
            ]
        )

    def _source_task(
        self, task: PhysicalTask, index: int, subtask: Subtask, ahead: list[Link], chain: Chain
    ) -> SourceTask:
        node = task.source
        assert node is not None
        context = self._deployment.source_context(task)
        share = SplitShare(node.id, index, self._send)
        self.shares.setdefault(node.id, {})[index] = share
        limit = None
        if node.id in self._aligned:
            limit = DriftLimit(node.id, index, drift=node.watermark.max_drift, send=self._send)
            self.limits.setdefault(node.id, []).append(limit)
        metrics = self._registry.operator(node.id, index)
        start = self._start(node.id)
        return SourceTask(
            subtask,
            id=node.id,
            source=node.source,
            open_reader=lambda split, position: node.source.reader(split, position, context),
            share=share,
            prefix=Prefix(
                node.id,
                ahead,
                connected=chain.connected,
                max_ahead=node.watermark.max_ahead,
                clock=self._ports.clock,
                marks=task.marks,
                times=task.marks and self._profile.watermarks == "end",
            ),
            strategy=node.watermark,
            profile=self._profile,
            read_ahead=self._settings.read_ahead,
            guard=Guard(node.id, node.on_error, metrics),
            metrics=metrics,
            reports=self._reports,
            run_blocking=self._ports.decoding.droppable,
            clock=self._ports.clock,
            timed=node.type.timed,
            watermark=MIN_TIME if start is None else start.watermark,
            reached=self._event_time_at(task),
            limit=limit,
        )

    def _link(self, task: PhysicalTask, index: int, position: int) -> Link:
        operator = task.chain[position]
        metrics = self._registry.operator(operator.id, index)
        keeps_state = operator.spec.state_signature(operator.inputs) is not None
        name = f"{operator.id}-{index}"
        folder = None if self._deployment.state_dir is None else self._deployment.state_dir / name
        share = None if self._restored is None else self._restored.take(operator.id, index)
        begun = None if share is None else share.adopted
        backend = growing_backend(self._settings.state_backend, folder, self._deployment.memory, begun)
        self.backends.append(backend)
        # An operator that keeps no state has no use for any.
        memory = self._deployment.memory.share() if keeps_state else MemoryShare.alone(1)
        context = OperatorContext(
            operator_id=operator.id,
            subtask=index,
            parallelism=task.parallelism,
            max_parallelism=self._plan.max_parallelism,
            clock=self._ports.clock,
            random=self._ports.random,
            state=backend,
            metrics=metrics,
            updates=self._profile.updates,
            memory_budget=memory,
            shared=self._deployment.shared_by(operator.id),
            marks=operator.marks,
        )
        keyed = None
        if keeps_state:
            self.keyed.append(backend)
            work = (
                Path("saved") if self._deployment.state_dir is None else self._deployment.state_dir / "saved"
            )
            keyed = Keyed(backend, context.groups, work / name, memory)
        with blamed(operator.id):
            logic = operator.spec.build(context, operator.inputs)
        effort = Effort(self._ports.clock) if operator.spec.calls_functions else None
        link = Link(operator.id, operator.node, logic, metrics, keyed, effort)
        if share is not None:
            self._to_restore.append((link, share.parts))
        return link

    def _event_time_at(self, task: PhysicalTask) -> int:
        """The event time of a task in the checkpoint: of its operators, or, if they do not keep it, of those that
        they feed. Inputs behind it had been left out."""
        if self._restored is None:
            return MIN_TIME
        found = self._event_times.get(task.id)
        if found is None:
            kept = self._restored.event_times
            own = [kept[operator.id] for operator in task.chain if operator.id in kept]
            fed = [self._plan.task(edge.lower) for edge in self._plan.edges if edge.upper == task.id]
            further = [time for each in fed if (time := self._event_time_at(each)) > MIN_TIME]
            found = self._event_times[task.id] = max(own) if own else min(further, default=MIN_TIME)
        return found

    def _start(self, source: str) -> SourceStart | None:
        return None if self._restored is None else self._restored.sources.get(source)

    def _channel_outlets(self, task: PhysicalTask, index: int) -> list[Outlet]:
        outlets: list[Outlet] = []
        for number, edge in enumerate(self._plan.edges):
            if edge.upper != task.id:
                continue
            lower = self._plan.task(edge.lower).parallelism
            here, elsewhere = self._channels[number], self._senders[number]
            mine = {j: here.get((index, j)) or elsewhere[index, j] for j in self._lower(edge, index)}
            route = route_for(
                edge,
                subtask=index,
                lower=lower,
                max_parallelism=self._plan.max_parallelism,
                elsewhere={j for i, j in elsewhere if i == index},
            )
            outlets.append(ChannelOutlet(edge.reads, mine, route))
        return outlets

    def _sink_outlets(self, task: PhysicalTask, index: int) -> list[Outlet]:
        outlets: list[Outlet] = []
        for node in task.sinks:
            name = f"{task.id}-{index}"
            context = replace(
                self._deployment.sink_context(node, task, index),
                end_epoch=self._reports.request_epoch,
                room=partial(self._reports.room, name),
                settled=partial(self._reports.settled, name),
            )
            with blamed(node.id):
                writer = node.sink.writer(node.type, context)
            outlets.append(SinkOutlet(node.input, node.id, writer, context.metrics, self._ports.clock))
        return outlets
