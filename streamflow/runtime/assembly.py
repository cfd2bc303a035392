"""Assembling a worker's parts: subtasks with their chains, channels and outlets out of a physical plan.

With a checkpoint to go on from, every operator gets its share of it, and every source its splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from streamflow.config import Settings
from streamflow.errors import StateError, Where
from streamflow.graph.logical import SourceNode
from streamflow.graph.physical import ExchangeKind, PhysicalEdge, PhysicalPlan, PhysicalTask
from streamflow.observe.registry import MetricsRegistry
from streamflow.operators.contract.error_policy import Guard
from streamflow.operators.contract.operator import OperatorContext, StatePart
from streamflow.operators.contract.sink import SinkContext
from streamflow.operators.contract.source import (
    Enumerator,
    Instance,
    SourceContext,
    SplitKeeper,
    SplitListener,
)
from streamflow.runtime.blame import blamed, taking_up
from streamflow.runtime.checkpoints.committing import Committing
from streamflow.runtime.checkpoints.restoring import Restored, SourceStart
from streamflow.runtime.control.assignment import SplitAssigner
from streamflow.runtime.control.split_alignment import SplitAlignment
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.exchange.channel_memory import ChannelMemory
from streamflow.runtime.exchange.outlet import ChannelOutlet, Outlet, SinkOutlet
from streamflow.runtime.exchange.routes import route_for
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.task.chain import Chain, Keyed, Link
from streamflow.runtime.task.loop import Task
from streamflow.runtime.task.metrics import TaskMetrics
from streamflow.runtime.task.read_ahead import Prefix
from streamflow.runtime.task.source_loop import SourceTask
from streamflow.runtime.task.subtask import Reports, Subtask
from streamflow.state.backends.factory import growing_backend
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.backends.state_memory import StateMemory
from streamflow.time.effort import Effort
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Assembly", "SourceParts"]

_SIDE_BY_SIDE = 16


@dataclass(frozen=True, slots=True)
class SourceParts:
    """What finds the splits of one source and hands them out."""

    enumerator: Enumerator
    assigner: SplitAssigner
    alignment: SplitAlignment | None = None


@dataclass(slots=True)
class Assembly:
    """The parts of one worker; `build` makes them."""

    plan: PhysicalPlan
    profile: ExecutionProfile
    settings: Settings
    ports: Ports
    registry: MetricsRegistry
    reports: Reports
    run: str
    """The name of this run, which no other run of the job has had."""
    state_dir: Path | None
    """Where backends lie; None: each in a private temporary directory, or in memory."""
    memory: StateMemory
    """For the state of all subtasks."""
    restored: Restored | None
    first_epoch: int
    """The first epoch that this run will end."""
    subtasks: list[Subtask] = field(default_factory=list[Subtask])
    subtasks_of: dict[str, list[Subtask]] = field(default_factory=dict[str, list[Subtask]])
    """By task."""
    loops: list[Task | SourceTask] = field(default_factory=list["Task | SourceTask"])
    sources: dict[str, list[SourceTask]] = field(default_factory=dict[str, list[SourceTask]])
    """The source tasks of each task that reads."""
    readers: dict[str, SourceParts] = field(default_factory=dict[str, SourceParts])
    """By source id."""
    committing: Committing = field(init=False)
    backends: list[KeyedStateBackend] = field(default_factory=list[KeyedStateBackend])
    """Everybody's, to be closed."""
    keyed: list[KeyedStateBackend] = field(default_factory=list[KeyedStateBackend])
    """Those of operators that keep state."""
    shares: list[tuple[Link, list[StatePart]]] = field(default_factory=list[tuple[Link, list[StatePart]]])
    """What operators have to be restored from."""
    _shared: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """What the enumerator and the readers of a source, or the subtasks of an operator, have in common, by their id."""
    _channels: list[dict[tuple[int, int], Channel]] = field(
        default_factory=list[dict[tuple[int, int], Channel]]
    )
    """Of each edge of the plan, by the numbers of the upper and the lower subtask."""
    _channel_memory: ChannelMemory = field(init=False)
    _event_times: dict[str, int] = field(default_factory=dict[str, int])

    def build(self) -> None:
        """Make everything; on the event loop's thread, since tasks belong to it."""
        self.committing = Committing(self.profile, self.ports.reach)
        self._channel_memory = ChannelMemory(self.settings.channel_bytes)
        for edge in self.plan.edges:
            senders = self.plan.task(edge.upper).parallelism
            pairs = ((i, j) for i in range(senders) for j in self._lower(edge, i))
            self._channels.append({pair: self._channel(edge, senders) for pair in pairs})
        for task in self.plan.tasks:
            self._make_reader(task)
            untimed = self.plan.untimed_ports(task.id)
            endless = self.plan.endless_ports(task.id) if untimed else frozenset[int]()
            for index in range(task.parallelism):
                self._build_subtask(task, index, untimed, endless)

    def restore(self) -> None:
        """Give every operator its share; blocks."""
        for link, parts in self.shares:
            assert link.logic is not None
            with taking_up(link.id, self.epoch):
                link.logic.restore(parts)
        self.shares.clear()

    @property
    def source_tasks(self) -> list[SourceTask]:
        """The tasks of every source."""
        return [task for tasks in self.sources.values() for task in tasks]

    @property
    def tasks(self) -> list[Task]:
        """The tasks that are fed by channels."""
        return [loop for loop in self.loops if isinstance(loop, Task)]

    @property
    def instance(self) -> Instance:
        """Which copy of the program this is."""
        return Instance.given(self.settings.instance)

    @property
    def epoch(self) -> int:
        """The last epoch of the run that is gone on from."""
        return 0 if self.restored is None else self.restored.epoch

    def _lower(self, edge: PhysicalEdge, upper: int) -> Sequence[int]:
        """The lower subtasks that an upper one sends to."""
        forward = edge.exchange is ExchangeKind.FORWARD
        return (upper,) if forward else range(self.plan.task(edge.lower).parallelism)

    def _upper(self, edge: PhysicalEdge, lower: int) -> Sequence[int]:
        """The upper subtasks that a lower one hears of."""
        forward = edge.exchange is ExchangeKind.FORWARD
        return (lower,) if forward else range(self.plan.task(edge.upper).parallelism)

    def _channel(self, edge: PhysicalEdge, senders: int) -> Channel:
        # What one may hold is shared by all senders of an exchange, among which a batch is cut up, too.
        share = 1 if edge.exchange is ExchangeKind.FORWARD else senders
        return Channel(
            port=edge.port,
            max_rows=max(1, self.settings.channel_rows // share),
            max_bytes=max(1, self.settings.channel_bytes // share),
            memory=self._channel_memory,
        )

    def _make_reader(self, task: PhysicalTask) -> None:
        if task.source is None:
            return
        self._shared[task.source.id] = {}
        enumerator = task.source.source.enumerator(self._source_context(task))
        start = self._start(task.source.id)
        if start is not None and start.enumerator is not None:
            _restore_enumerator(task.source, enumerator, start.enumerator)
        restored = None if start is None else start.splits
        final = start is not None and start.final
        if restored is not None and isinstance(enumerator, SplitKeeper):
            restored = [state for state in restored if enumerator.keeps(state.split)]
            final = final and enumerator.complete
        assigner = SplitAssigner(
            task.parallelism,
            side_by_side=_SIDE_BY_SIDE if self.profile.by_watermark else 1,
            restored=restored,
            final=final,
            unread=enumerator.unread if isinstance(enumerator, SplitListener) else None,
        )
        drift = task.source.watermark.max_drift
        alignment = None if drift is None or self.profile.watermarks == "end" else SplitAlignment(drift)
        self.readers[task.source.id] = SourceParts(enumerator, assigner, alignment)

    def _source_context(self, task: PhysicalTask) -> SourceContext:
        assert task.source is not None
        return SourceContext(
            operator_id=task.source.id,
            clock=self.ports.clock,
            random=self.ports.random,
            run_blocking=self.ports.decoding.droppable,
            batch_rows=self.profile.batch_rows,
            on_error=task.source.on_error,
            columns=task.columns,
            stamped=task.source.timestamps is not None,
            job=self.instance.of(self.plan.job),
            instance=self.instance,
            metrics=self.registry.operator(task.source.id, 0),
            shared=self._shared[task.source.id],
        )

    def _build_subtask(
        self, task: PhysicalTask, index: int, untimed: frozenset[int], endless: frozenset[int]
    ) -> None:
        outlets = [*self._channel_outlets(task, index), *self._sink_outlets(task, index)]
        links = [self._link(task, index, position) for position in range(len(task.chain))]
        members = [link.metrics for link in links]
        if task.source is not None:
            members.insert(0, self.registry.operator(task.source.id, index))
        # What has already run where the data was read leaves the chain before its first operator.
        ahead = [Link(link.id, None, link.metrics) for link in links[: task.read_ahead]]
        here = [*ahead, *links[task.read_ahead :]]
        chain = Chain(here, outlets, first=task.read_ahead, hurries=self.reports.hurries)
        subtask = Subtask(
            f"{task.id}-{index}",
            chain,
            outlets,
            reports=self.reports,
            index=index,
            run_blocking=self.ports.cpu.droppable,
            io=self.ports.state,
            clock=self.ports.clock,
            metrics=TaskMetrics(members, self.ports.clock),
            counted=[*members, *(self.registry.operator(sink.node.id, index) for sink in task.sinks)],
            portions=any(operator.spec.calls_functions for operator in task.chain[task.read_ahead :]),
            epoch=self.epoch,
            reach=self.ports.reach,
        )
        self.subtasks.append(subtask)
        self.subtasks_of.setdefault(task.id, []).append(subtask)
        if task.source is None:
            marks = self.profile.watermarks != "end"
            self.loops.append(
                Task(
                    subtask,
                    self._inbox(task, index),
                    untimed=untimed,
                    endless=endless,
                    marks=marks,
                    restored=self._event_time_at(task),
                )
            )
            return
        source_task = self._source_task(task, index, subtask, links, chain)
        self.loops.append(source_task)
        self.sources.setdefault(task.id, []).append(source_task)

    def _inbox(self, task: PhysicalTask, index: int) -> Inbox:
        return Inbox(
            [
                channels[upper, index]
                for edge, channels in zip(self.plan.edges, self._channels, strict=True)
                if edge.lower == task.id
                for upper in self._upper(edge, index)
            ]
        )

    def _source_task(
        self, task: PhysicalTask, index: int, subtask: Subtask, links: list[Link], chain: Chain
    ) -> SourceTask:
        node = task.source
        assert node is not None
        context = self._source_context(task)
        metrics = self.registry.operator(node.id, index)
        ahead = [(link.id, link.logic) for link in links[: task.read_ahead] if link.logic is not None]
        start = self._start(node.id)
        return SourceTask(
            subtask,
            id=node.id,
            source=node.source,
            open_reader=lambda split, position: node.source.reader(split, position, context),
            assigner=self.readers[node.id].assigner,
            prefix=Prefix(
                ahead,
                stamped=node.timestamps is not None,
                connected=chain.connected,
                max_ahead=node.watermark.max_ahead,
                clock=self.ports.clock,
                marks=task.marks,
                times=task.marks and self.profile.watermarks == "end",
            ),
            prefix_metrics=[link.metrics for link in links[: task.read_ahead]],
            strategy=node.watermark,
            profile=self.profile,
            read_ahead=self.settings.read_ahead,
            guard=Guard(node.id, node.on_error, metrics),
            metrics=metrics,
            reports=self.reports,
            run_blocking=self.ports.decoding.droppable,
            clock=self.ports.clock,
            timed=node.type.timed,
            watermark=MIN_TIME if start is None else start.watermark,
            reached=self._event_time_at(task),
            index=index,
            alignment=self.readers[node.id].alignment,
        )

    def _link(self, task: PhysicalTask, index: int, position: int) -> Link:
        operator = task.chain[position]
        metrics = self.registry.operator(operator.id, index)
        keeps_state = operator.spec.state_signature(operator.inputs) is not None
        name = f"{operator.id}-{index}"
        folder = None if self.state_dir is None else self.state_dir / name
        share = None if self.restored is None else self.restored.take(operator.id, index)
        begun = None if share is None else share.adopted
        backend = growing_backend(self.settings.state_backend, folder, self.memory, begun)
        self.backends.append(backend)
        context = OperatorContext(
            operator_id=operator.id,
            subtask=index,
            parallelism=task.parallelism,
            max_parallelism=self.plan.max_parallelism,
            clock=self.ports.clock,
            random=self.ports.random,
            state=backend,
            metrics=metrics,
            updates=self.profile.updates,
            memory_budget=self.memory.share,
            shared=self._shared.setdefault(operator.id, {}),
            marks=operator.marks,
        )
        keyed = None
        if keeps_state:
            self.keyed.append(backend)
            work = Path("saved") if self.state_dir is None else self.state_dir / "saved"
            keyed = Keyed(backend, context.groups, work / name)
        with blamed(operator.id):
            logic = operator.spec.build(context, operator.inputs)
        effort = Effort(self.ports.clock) if operator.spec.calls_functions else None
        link = Link(operator.id, logic, metrics, keyed, effort)
        if share is not None:
            self.shares.append((link, share.parts))
        return link

    def _event_time_at(self, task: PhysicalTask) -> int:
        """How far event time had come in the checkpoint that is gone on from: in the task's operators, or, where they
        do not keep it, in those that they feed. What was behind that had been left out."""
        if self.restored is None:
            return MIN_TIME
        found = self._event_times.get(task.id)
        if found is None:
            kept = self.restored.event_times
            own = [kept[operator.id] for operator in task.chain if operator.id in kept]
            fed = [self.plan.task(edge.lower) for edge in self.plan.edges if edge.upper == task.id]
            further = [time for each in fed if (time := self._event_time_at(each)) > MIN_TIME]
            found = self._event_times[task.id] = max(own) if own else min(further, default=MIN_TIME)
        return found

    def _start(self, source: str) -> SourceStart | None:
        return None if self.restored is None else self.restored.sources.get(source)

    def _channel_outlets(self, task: PhysicalTask, index: int) -> list[Outlet]:
        outlets: list[Outlet] = []
        for edge, channels in zip(self.plan.edges, self._channels, strict=True):
            if edge.upper != task.id:
                continue
            lower = self.plan.task(edge.lower).parallelism
            mine = {j: channels[index, j] for j in self._lower(edge, index)}
            route = route_for(edge, subtask=index, lower=lower, max_parallelism=self.plan.max_parallelism)
            outlets.append(ChannelOutlet(edge.position, edge.output, mine, route))
        return outlets

    def _sink_outlets(self, task: PhysicalTask, index: int) -> list[Outlet]:
        outlets: list[Outlet] = []
        for physical in task.sinks:
            node = physical.node
            context = SinkContext(
                operator_id=node.id,
                subtask=index,
                parallelism=task.parallelism,
                clock=self.ports.clock,
                random=self.ports.random,
                run_blocking=self.ports.output,
                disk=self.ports.disk,
                job=self.instance.of(self.plan.job),
                restored=None if self.restored is None else self.restored.epoch,
                from_savepoint=self.restored is not None and self.restored.manifest.kind == "savepoint",
                checkpointed=self.reports.checkpointing,
                allow_duplicates=self.settings.allow_duplicates,
                from_start=self.settings.restore == "none",
                reach=self.ports.reach,
                line=self.run if self.restored is None else self.restored.line,
                first_epoch=self.first_epoch,
                restored_parent=None if self.restored is None else self.restored.manifest.parent,
                noted=None if self.restored is None else self.restored.notes.get(node.id),
                end_epoch=self.reports.request_epoch,
                room=partial(self.reports.room, f"{task.id}-{index}"),
                settled=partial(self.reports.settled, f"{task.id}-{index}"),
                metrics=self.registry.operator(node.id, index),
            )
            self.committing.add(node.id, node.sink, context)
            with blamed(node.id):
                writer = node.sink.writer(node.type, context)
            outlets.append(SinkOutlet(physical.position, physical.output, node.id, writer, context.metrics))
        return outlets


def _restore_enumerator(node: SourceNode, enumerator: Enumerator, state: Mapping[str, Any]) -> None:
    """Checkpoints of earlier versions do not say of which kind of source they are: this one may not understand them."""
    try:
        enumerator.restore(state)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateError(
            f"{node.source.describe()} cannot go on from what the checkpoint has: it is that of another kind of source",
            where=Where(operator=node.id),
            hint='give the sources the ids they had: .named("id"), or start again with restore="none"',
        ) from error
