"""The local runner: all subtasks in this process, on the running event loop."""

from __future__ import annotations

import asyncio
from typing import Protocol

from streamflow.config import Settings
from streamflow.errors import ConfigError, StateError
from streamflow.graph.logical import LogicalGraph, OperatorNode, SinkNode, SourceNode
from streamflow.graph.physical import PhysicalPlan
from streamflow.metrics.registry import MetricsRegistry
from streamflow.runtime.launching import Launcher
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.restart import RestartPolicy
from streamflow.runtime.status import CheckpointStatus, JobResult, JobStatus, OperatorStatus
from streamflow.runtime.worker import Worker, held_back_by
from streamflow.time.timestamps import MIN_TIME

__all__ = ["LocalJob", "Server"]


class Server(Protocol):
    """Something that answers for the job while it runs."""

    @property
    def port(self) -> int: ...

    def close(self) -> None: ...


class LocalJob:
    """A job in this process; started when it is made, inside a running event loop."""

    def __init__(
        self,
        graph: LogicalGraph,
        plan: PhysicalPlan,
        profile: ExecutionProfile,
        settings: Settings,
        *,
        ports: Ports | None = None,
    ) -> None:
        self._graph = graph
        self._plan = plan
        self._profile = profile
        self._own_ports = ports is None
        self._ports = ports or Ports(io_threads=settings.io_threads, cpu_threads=max(2, settings.parallelism))
        self.registry = MetricsRegistry(job=graph.job)
        self._restarts = RestartPolicy.of(settings)
        self._launcher = Launcher(plan, profile, settings, self._ports, self.registry)
        self._checkpointing = settings.checkpoint_dir is not None
        self._worker: Worker | None = None
        self._up = asyncio.Event()
        self._stopping: bool | None = None
        self._started = self._ports.clock.monotonic()
        self._ended: float | None = None
        self._stopped = False
        self._notes: list[str] = []
        self._metrics_server: Server | None = None
        if self._checkpointing:
            self.registry.whole.refreshed_by(self._refresh_metrics)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._launcher.open()
            while True:
                taken = self._launcher.metrics.taken
                try:
                    self._worker = await self._launcher.worker()
                    if self._stopping is not None:
                        self._worker.stop(drain=self._stopping)
                    await self._worker.run(self._up.set)
                    return
                except Exception as error:
                    if not self._up.is_set():
                        raise  # nothing has run yet: whoever started it had better know
                    wait = self._restarts.after(error, progress=self._launcher.metrics.taken > taken)
                    if wait is None or self._stopping is not None:
                        raise
                    self._notes.append(f"restarted after: {error}")
                    await self._ports.clock.sleep(wait / 1e6)
        finally:
            await self._launcher.close()
            self._ended = self._ports.clock.monotonic()
            if self._own_ports:
                self._ports.close()
            if self._metrics_server is not None:
                self._metrics_server.close()

    def serve_metrics(self, server: Server) -> None:
        """Keep a metrics server open until the job has ended."""
        self._metrics_server = server

    @property
    def metrics_port(self) -> int | None:
        """The port on which metrics are served: the one that was free, where 0 was asked for."""
        return None if self._metrics_server is None else self._metrics_server.port

    async def wait(self) -> JobResult:
        """Until it has ended; raises what made it fail."""
        await asyncio.shield(self._task)
        return self._result()

    async def stop(self, *, drain: bool = False) -> JobResult:
        """Read no more, process and commit what is in flight, and end. With checkpoints, and without `drain`, the last
        of them is taken: the next run goes on from there."""
        self._stopped = not self._task.done()
        self._stopping = drain
        if self._worker is not None:
            self._worker.stop(drain=drain)
        return await self.wait()

    async def checkpoint(self) -> int:
        """Take a checkpoint now: its number, once it is published and its output committed. StateError where it
        fails, ConfigError where the job takes none."""
        if not self._checkpointing:
            raise ConfigError("this job takes no checkpoints", hint="start it with a checkpoint_dir")
        starting = asyncio.ensure_future(self._up.wait())
        await asyncio.wait({starting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if self._worker is None or self._task.done():
            raise StateError("the job is not running", hint="take checkpoints while it runs")
        return await self._worker.checkpoint()

    async def savepoint(self, url: str) -> str:
        """Take a checkpoint and copy it whole to `url`, a folder or object store; what to give as `restore`."""
        number = await self.checkpoint()
        return await self._launcher.savepoint(number, url)

    async def cancel(self) -> None:
        """End at once; what is not committed is discarded."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, until the end."""
        return (self._ended if self._ended is not None else self._ports.clock.monotonic()) - self._started

    def status(self) -> JobStatus:
        """Its figures now."""
        if not self._task.done():
            state = "running"
        elif self._task.cancelled() or self._task.exception() is not None:
            state = "failed"
        else:
            state = "stopped" if self._stopped else "finished"
        sources = [node.id for node in self._graph.nodes if isinstance(node, SourceNode)]
        sinks = [node.id for node in self._graph.nodes if isinstance(node, SinkNode)]
        total = self.registry.total
        return JobStatus(
            job=self._graph.job,
            mode=self._profile.name,
            state=state,
            elapsed=self.elapsed,
            records_read=int(sum(total("streamflow_records_in_total", id) for id in sources)),
            records_written=int(sum(total("streamflow_records_in_total", id) for id in sinks)),
            watermark=MIN_TIME if self._worker is None else self._worker.watermark,
            epoch=0 if self._worker is None else self._worker.coordinator.epoch,
            operators=tuple(self._operator(id, kind, width) for id, kind, width in self._operators()),
            checkpoint=self._checkpoint_status(),
            restarts=self._restarts.restarts,
            notes=(*self._launcher.notes, *self._notes),
        )

    def _refresh_metrics(self) -> None:
        """What no operator counts, for whoever scrapes."""
        status, whole = self._checkpoint_status(), self.registry.whole
        assert status is not None
        whole.counter("streamflow_checkpoints_total", "Checkpoints published").value = status.taken
        whole.counter(
            "streamflow_checkpoint_failures_total", "Checkpoints that could not be stored"
        ).value = status.failed
        whole.counter("streamflow_restarts_total", "Restarts after a failure").value = self._restarts.restarts
        if status.number is None:
            return
        whole.gauge("streamflow_checkpoint_number", "The last checkpoint's number").set(status.number)
        whole.gauge(
            "streamflow_checkpoint_duration_seconds",
            "From the last checkpoint's beginning to its publication",
        ).set(status.duration)
        whole.gauge("streamflow_checkpoint_size_bytes", "Bytes that the last checkpoint consists of").set(
            status.nbytes
        )
        whole.gauge("streamflow_checkpoint_age_seconds", "Seconds since the last checkpoint").set(status.age)

    def _checkpoint_status(self) -> CheckpointStatus | None:
        if not self._checkpointing:
            return None
        metrics = self._launcher.metrics
        now = self._ports.clock.monotonic() if self._ended is None else self._ended
        return CheckpointStatus(
            number=metrics.number,
            age=0.0 if metrics.number is None else now - metrics.taken_at,
            duration=metrics.duration,
            nbytes=metrics.nbytes,
            taken=metrics.taken,
            failed=metrics.failed,
        )

    def _operators(self) -> list[tuple[str, str, int]]:
        """(id, kind, parallelism) of every operator as it runs, in the plan's order."""
        listed: list[tuple[str, str, int]] = []
        for task in self._plan.tasks:
            if task.source is not None:
                listed.append((task.source.id, "read", task.parallelism))
            listed.extend((physical.id, physical.spec.kind, task.parallelism) for physical in task.chain)
            listed.extend((sink.node.id, "write", task.parallelism) for sink in task.sinks)
        return listed

    def _operator(self, id: str, kind: str, parallelism: int) -> OperatorStatus:
        def total(name: str) -> int:
            return int(self.registry.total(f"streamflow_{name}", id))

        def ratio(name: str) -> float:
            return self.registry.total(f"streamflow_{name}_ratio", id) / parallelism

        task = next((t.id for t in self._plan.tasks if t.source is not None and t.source.id == id), "")
        return OperatorStatus(
            operator=id,
            kind=kind,
            parallelism=parallelism,
            records_in=total("records_in_total"),
            records_out=total("records_out_total"),
            bytes_in=total("bytes_in_total"),
            late_dropped=total("late_records_dropped_total"),
            errors=total("record_errors_total"),
            watermark=MIN_TIME if self._worker is None else self._worker.watermark_of(id),
            busy=ratio("busy"),
            backpressured=ratio("backpressured"),
            held_back_by=None if self._worker is None else held_back_by(self._worker.sources, task),
        )

    def _result(self) -> JobResult:
        status = self.status()
        late = sum(
            int(self.registry.total("streamflow_late_records_total", node.id))
            for node in self._graph.nodes
            if isinstance(node, OperatorNode)
        )
        return JobResult(
            job=status.job,
            mode=status.mode,
            duration=self.elapsed,
            records_in={operator.operator: operator.records_in for operator in status.operators},
            records_out={operator.operator: operator.records_out for operator in status.operators},
            late=late,
            dropped=sum(operator.late_dropped for operator in status.operators),
            errors=sum(operator.errors for operator in status.operators),
            epochs=status.epoch,
            stopped=self._stopped,
            restarts=status.restarts,
            checkpoint=status.checkpoint,
            notes=status.notes,
            operators=status.operators,
        )
