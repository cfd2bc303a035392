"""The worker: builds the subtasks of a physical plan, wires their channels, and runs them to the end.

A runner decides where workers live; the worker knows nothing of that. Here one worker holds the whole plan.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamflow.config import Settings
from streamflow.errors import JobFailedError, StreamflowError
from streamflow.graph.physical import PhysicalEdge, PhysicalPlan, PhysicalTask
from streamflow.metrics.registry import MetricsRegistry
from streamflow.operators.base import OperatorContext
from streamflow.operators.guard import Guard
from streamflow.operators.sink import Committable, Committer, SinkContext
from streamflow.operators.source import Enumerator, SourceContext
from streamflow.runtime.assignment import SplitAssigner
from streamflow.runtime.blame import blamed
from streamflow.runtime.chain import Chain, Link
from streamflow.runtime.channel import Channel, Inbox
from streamflow.runtime.epochs import Commit, EpochCoordinator, Sealed
from streamflow.runtime.exchange import route_for
from streamflow.runtime.outlet import ChannelOutlet, Outlet, SinkOutlet
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.read_ahead import Prefix
from streamflow.runtime.source_task import SourceTask
from streamflow.runtime.subtask import Subtask
from streamflow.runtime.task import Task
from streamflow.runtime.task_metrics import TaskMetrics
from streamflow.state.factory import open_backend
from streamflow.state.lazy import LazyBackend
from streamflow.time.timestamps import MAX_TIME

__all__ = ["Worker", "held_back_by"]

_SIDE_BY_SIDE = 16


class Worker:
    """Runs a plan in this process, on this event loop."""

    def __init__(
        self,
        plan: PhysicalPlan,
        profile: ExecutionProfile,
        settings: Settings,
        ports: Ports,
        registry: MetricsRegistry,
    ) -> None:
        self._plan = plan
        self._profile = profile
        self._settings = settings
        self._ports = ports
        self.registry = registry
        self._channels: dict[int, dict[tuple[int, int], Channel]] = {}
        self._subtasks: list[Subtask] = []
        self.sources: dict[str, list[SourceTask]] = {}
        self._loops: list[Task | SourceTask] = []
        self._enumerators: list[tuple[str, Enumerator, SplitAssigner]] = []
        self._committers: dict[str, Committer | None] = {}
        self._backends: list[LazyBackend] = []
        self._news = asyncio.Event()
        self._epoch_asked = False
        self._commits: asyncio.Queue[Commit] = asyncio.Queue()
        # State of this run only: an earlier run's would not fit what this one reads from the start.
        parent = settings.state_dir
        self._state_dir = None if parent is None else Path(parent) / f"run-{ports.random.token()}"
        self._build()
        self.coordinator = EpochCoordinator(subtask.name for subtask in self._subtasks)

    async def run(self) -> None:
        """Until every task has finished and everything is committed; raises what the first failing task raised."""
        discoveries = [asyncio.create_task(self._discover(*each)) for each in self._enumerators]
        epochs = asyncio.create_task(self._drive_epochs())
        tasks = [asyncio.create_task(loop.run()) for loop in self._loops]
        commits = asyncio.create_task(self._carry_out_commits())
        needed = [*tasks, epochs, commits]
        try:
            pending = {*needed, *discoveries}
            while not all(task.done() for task in needed):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except StreamflowError:
            raise
        except Exception as error:
            raise JobFailedError(
                f"{type(error).__name__}: {error}", hint="this is not expected: please report it"
            ) from error
        finally:
            for task in (*needed, *discoveries):
                task.cancel()
            await asyncio.gather(*needed, *discoveries, return_exceptions=True)
            for source in self._source_tasks:
                await source.close()
            for subtask in self._subtasks:
                await subtask.close()
            for backend in self._backends:
                backend.close()
            if self._state_dir is not None:
                shutil.rmtree(self._state_dir, ignore_errors=True)

    def stop(self, *, drain: bool) -> None:
        """Sources read no more; what is in flight is processed and committed."""
        for source in self._source_tasks:
            source.stop(drain=drain)

    @property
    def _source_tasks(self) -> list[SourceTask]:
        """The tasks of every source."""
        return [task for tasks in self.sources.values() for task in tasks]

    @property
    def watermark(self) -> int:
        """The smallest watermark of all subtasks."""
        return min((subtask.watermark for subtask in self._subtasks), default=MAX_TIME)

    def watermark_of(self, operator: str) -> int:
        """The smallest watermark over the subtasks of the task that holds an operator."""
        return min(
            (s.watermark for task in self._plan.tasks for s in self._of(task) if _holds(task, operator)),
            default=MAX_TIME,
        )

    # Reports from subtasks.

    def acknowledge(self, subtask: str, epoch: int, sealed: Sealed) -> None:
        self._enqueue(self.coordinator.acknowledge(subtask, epoch, sealed))

    def finish(self, subtask: str, sealed: Sealed) -> None:
        self._enqueue(self.coordinator.finish(subtask, sealed))
        self._news.set()

    def request_epoch(self) -> None:
        self._epoch_asked = True
        self._news.set()

    def _enqueue(self, commit: Commit | None) -> None:
        if commit is not None:
            self._commits.put_nowait(commit)

    async def _discover(self, source: str, enumerator: Enumerator, assigner: SplitAssigner) -> None:
        while not assigner.final:
            with blamed(source):
                discovery = await enumerator.discover()
            assigner.found(discovery)

    async def _drive_epochs(self) -> None:
        """Begins an epoch when its time has come, or when a source asks for its end; one after the other."""
        interval = self._profile.epoch_interval
        if interval is None:
            return
        clock = self._ports.clock
        due = clock.monotonic() + interval / 1e6
        while not self.coordinator.finished:
            wait = due - clock.monotonic()
            if self.coordinator.in_flight:
                await self._until_news(None)
            elif wait > 0 and not self._epoch_asked:
                await self._until_news(wait)
            elif (epoch := self.coordinator.begin()) is not None:
                self._epoch_asked = False
                due = clock.monotonic() + interval / 1e6
                for source in self._source_tasks:
                    source.inject(epoch)

    async def _until_news(self, seconds: float | None) -> None:
        """Until an epoch is asked for, is committed or a subtask ends; no longer than `seconds`."""
        self._news.clear()
        news = asyncio.ensure_future(self._news.wait())
        waiting: set[asyncio.Future[Any]] = {news}
        if seconds is not None:
            waiting.add(asyncio.ensure_future(self._ports.clock.sleep(seconds)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _carry_out_commits(self) -> None:
        while True:
            commit = await self._commits.get()
            by_sink: dict[str, list[Committable]] = {}
            for sink, committable in commit.sealed:
                by_sink.setdefault(sink, []).append(committable)
            for sink, committer in self._committers.items():
                if committer is not None and by_sink.get(sink):
                    with blamed(sink):
                        await committer.commit(commit.epoch, by_sink[sink])
            following = self.coordinator.committed()
            self._enqueue(following)
            self._news.set()
            if self.coordinator.finished and following is None and self._commits.empty():
                return

    # Building.

    def _build(self) -> None:
        plan = self._plan
        for number, edge in enumerate(plan.edges):
            upper, lower = plan.task(edge.upper), plan.task(edge.lower)
            self._channels[number] = {
                (i, j): self._channel(edge)
                for i in range(upper.parallelism)
                for j in range(lower.parallelism)
                if edge.exchange.value != "forward" or i == j
            }
        for task in plan.tasks:
            assigner = self._assigner(task)
            for index in range(task.parallelism):
                self._build_subtask(task, index, assigner)

    def _channel(self, edge: PhysicalEdge) -> Channel:
        return Channel(
            port=edge.port, max_rows=self._settings.channel_rows, max_bytes=self._settings.channel_bytes
        )

    def _assigner(self, task: PhysicalTask) -> SplitAssigner | None:
        if task.source is None:
            return None
        side_by_side = _SIDE_BY_SIDE if self._profile.by_watermark else 1
        assigner = SplitAssigner(task.parallelism, side_by_side=side_by_side)
        enumerator = task.source.source.enumerator(self._source_context(task))
        self._enumerators.append((task.source.id, enumerator, assigner))
        return assigner

    def _source_context(self, task: PhysicalTask) -> SourceContext:
        assert task.source is not None
        return SourceContext(
            operator_id=task.source.id,
            clock=self._ports.clock,
            random=self._ports.random,
            run_blocking=self._ports.io,
            batch_rows=self._profile.batch_rows,
            on_error=task.source.on_error,
            columns=task.columns,
        )

    def _build_subtask(self, task: PhysicalTask, index: int, assigner: SplitAssigner | None) -> None:
        outlets = [*self._channel_outlets(task, index), *self._sink_outlets(task, index)]
        links = [self._link(task, index, position) for position in range(len(task.chain))]
        members = [link.metrics for link in links]
        if task.source is not None:
            members.insert(0, self.registry.operator(task.source.id, index))
        # What has already run where the data was read leaves the chain before its first operator.
        ahead = [Link(link.id, None, link.metrics) for link in links[: task.read_ahead]]
        chain = Chain([*ahead, *links[task.read_ahead :]], outlets, first=task.read_ahead)
        subtask = Subtask(
            f"{task.id}-{index}",
            chain,
            outlets,
            reports=self,
            run_blocking=self._ports.cpu,
            clock=self._ports.clock,
            metrics=TaskMetrics(members, self._ports.clock),
        )
        self._subtasks.append(subtask)
        if assigner is None:
            inbox = Inbox(
                [
                    channel
                    for number, edge in enumerate(self._plan.edges)
                    if edge.lower == task.id
                    for (_, lower), channel in self._channels[number].items()
                    if lower == index
                ]
            )
            self._loops.append(Task(subtask, inbox))
            return
        source_task = self._source_task(task, index, assigner, subtask, links, chain)
        self._loops.append(source_task)
        self.sources.setdefault(task.id, []).append(source_task)

    def _source_task(
        self,
        task: PhysicalTask,
        index: int,
        assigner: SplitAssigner,
        subtask: Subtask,
        links: list[Link],
        chain: Chain,
    ) -> SourceTask:
        node = task.source
        assert node is not None
        context = self._source_context(task)
        metrics = self.registry.operator(node.id, index)
        ahead = [(link.id, link.logic) for link in links[: task.read_ahead] if link.logic is not None]
        return SourceTask(
            subtask,
            id=node.id,
            source=node.source,
            open_reader=lambda split: node.source.reader(split, None, context),
            assigner=assigner,
            prefix=Prefix(
                ahead,
                stamped=node.timestamps is not None,
                connected=chain.connected,
                max_ahead=node.watermark.max_ahead,
                clock=self._ports.clock,
            ),
            prefix_metrics=[link.metrics for link in links[: task.read_ahead]],
            strategy=node.watermark,
            profile=self._profile,
            read_ahead=self._settings.read_ahead,
            guard=Guard(node.id, node.on_error, metrics),
            metrics=metrics,
            reports=self,
            run_blocking=self._ports.io,
            clock=self._ports.clock,
        )

    def _link(self, task: PhysicalTask, index: int, position: int) -> Link:
        operator = task.chain[position]
        metrics = self.registry.operator(operator.id, index)
        directory = self._state_dir
        backend = LazyBackend(
            lambda: open_backend(
                self._settings.state_backend,
                None if directory is None else directory / f"{operator.id}-{index}",
            )
        )
        self._backends.append(backend)
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
            memory_budget=max(1, self._settings.memory_budget // task.parallelism),
        )
        return Link(operator.id, operator.spec.build(context, operator.inputs), metrics)

    def _channel_outlets(self, task: PhysicalTask, index: int) -> list[Outlet]:
        outlets: list[Outlet] = []
        for number, edge in enumerate(self._plan.edges):
            if edge.upper != task.id:
                continue
            lower = self._plan.task(edge.lower).parallelism
            mine = {j: channel for (i, j), channel in self._channels[number].items() if i == index}
            route = route_for(edge, subtask=index, lower=lower, max_parallelism=self._plan.max_parallelism)
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
                clock=self._ports.clock,
                random=self._ports.random,
                run_blocking=self._ports.io,
                disk=self._ports.disk,
            )
            if node.id not in self._committers:
                self._committers[node.id] = node.sink.committer(context)
            with blamed(node.id):
                writer = node.sink.writer(node.type, context)
            metrics = self.registry.operator(node.id, index)
            outlets.append(SinkOutlet(physical.position, physical.output, node.id, writer, metrics))
        return outlets

    def _of(self, task: PhysicalTask) -> list[Subtask]:
        names = {f"{task.id}-{index}" for index in range(task.parallelism)}
        return [subtask for subtask in self._subtasks if subtask.name in names]


def _holds(task: PhysicalTask, operator: str) -> bool:
    ids: set[str] = {physical.id for physical in task.chain} | {sink.node.id for sink in task.sinks}
    if task.source is not None:
        ids.add(task.source.id)
    return operator in ids


def held_back_by(sources: Mapping[str, list[SourceTask]], task: str) -> str | None:
    """The split that holds a source task's watermark back, if any of its subtasks has one."""
    return next((held for loop in sources.get(task, ()) if (held := loop.held_back_by) is not None), None)
