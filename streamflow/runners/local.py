"""The local runner: all subtasks in this process, on the running event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from streamflow.config import Settings
from streamflow.errors import ConfigError, StateError
from streamflow.graph.logical import LogicalGraph, OperatorNode
from streamflow.graph.physical import PhysicalPlan
from streamflow.logs import CURRENT_JOB, reason, told
from streamflow.metrics.health import Health
from streamflow.metrics.registry import MetricsRegistry
from streamflow.operators.source import InstanceClaim
from streamflow.runners.reporting import Reporter
from streamflow.runners.watch import Watch
from streamflow.runtime.launching import Launcher
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.restart import RestartPolicy
from streamflow.runtime.status import JobResult, JobStatus
from streamflow.runtime.worker import Worker

if TYPE_CHECKING:
    from streamflow.metrics.operating_server import OperatingServer

__all__ = ["LocalJob"]

_LOG: Final = logging.getLogger("streamflow.job")


class LocalJob:
    """A job in this process; started when it is made, inside a running event loop.

    ConfigError where it cannot serve its metrics as the settings say; then nothing has been started.
    """

    def __init__(
        self,
        graph: LogicalGraph,
        plan: PhysicalPlan,
        profile: ExecutionProfile,
        settings: Settings,
        *,
        ports: Ports | None = None,
        claim: InstanceClaim | None = None,
    ) -> None:
        self._graph = graph
        self._profile = profile
        self._settings = settings
        self._restarts = RestartPolicy.of(settings)
        self._own_ports = ports is None
        self._ports = ports or Ports(io_threads=settings.io_threads, cpu_threads=max(2, settings.parallelism))
        self.registry = MetricsRegistry(job=graph.job)
        self.health = Health(graph.job, self._ports.clock)
        self._launcher = Launcher(plan, profile, settings, self._ports, self.registry)
        self._checkpointing = settings.checkpoint_dir is not None
        self._reporter = Reporter(
            graph,
            plan,
            profile,
            self.registry,
            self._launcher.metrics if self._checkpointing else None,
            self._restarts,
            self.health,
            self._ports.clock,
        )
        self._watch = Watch(self.registry, self._reporter, self.health, self._ports.clock)
        self._worker: Worker | None = None
        self._up = asyncio.Event()
        self._stopping: bool | None = None
        self._stopped = False
        self._notes: list[str] = []
        self._claim = claim
        """Its share of the input, where copies agree on theirs: it ends when another copy has it."""
        self._operating = self._serve()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        CURRENT_JOB.set(self._graph.job)
        _LOG.info("job started", extra=told(mode=self._profile.name, **self._told_settings()))
        # Under virtual time nothing looks on: it would change what happens when.
        watching = asyncio.create_task(self._watch.run()) if self._own_ports else None
        keeping = None if self._claim is None else asyncio.create_task(self._keep(self._claim))
        ended = "failed"
        try:
            await self._launcher.open()
            await self._work()
            ended = "stopped" if self._stopped else "finished"
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            self.health.failure = "it was ended at once" if cancelled else reason(error)
            self.health.state = "failed"
            raise
        finally:
            await self._launcher.close()
            self._reporter.end()
            if keeping is not None and self._claim is not None:
                keeping.cancel()
                await self._claim.close()
            if watching is not None:
                watching.cancel()
                self._watch.tell()
            status = self._reporter.status(ended, ())
            figures = told(
                read=status.records_read,
                written=status.records_written,
                seconds=round(status.elapsed, 3),
                **({"error": self.health.failure} if ended == "failed" else {}),
            )
            _LOG.info("job %s", ended, extra=figures)
            if self._own_ports:
                self._ports.close()
            if self._operating is not None:
                self._operating.close()

    async def _keep(self, claim: InstanceClaim) -> None:
        await claim.lost()
        self._notes.append("another copy has this one's share of the input")
        _LOG.warning("share lost")
        await self.stop()

    async def _work(self) -> None:
        """Run a worker to its end; after a failure, where the settings say so, the next."""
        while True:
            taken = self._launcher.metrics.taken
            try:
                self._worker = self._reporter.worker = await self._launcher.worker()
                if self._stopping is not None:
                    self._worker.stop(drain=self._stopping)
                await self._worker.run(self._is_up)
                return
            except Exception as failure:  # noqa: BLE001 — told below as what it came of
                error = await self._launcher.cause(failure)
                wait = None
                if self._up.is_set():  # or nothing has run yet: whoever started it had better know
                    wait = self._restarts.after(error, progress=self._launcher.metrics.taken > taken)
                if wait is None or self._stopping is not None:
                    raise error from error.__cause__
                self._notes.append(f"restarted after: {error}")
                self.health.failure = reason(error)
                self.health.state = "restarting"
                why = told(after=reason(error), restarts=self._restarts.restarts, wait_seconds=wait / 1e6)
                _LOG.warning("job restarts", extra=why)
                await self._ports.clock.sleep(wait / 1e6)

    def _is_up(self) -> None:
        self._up.set()
        if self._stopping is None:
            self.health.state = "running"
        _LOG.info("job is running")

    def _told_settings(self) -> dict[str, Any]:
        """What differs from the defaults."""
        names = (name for name in Settings.names() if name != "mode")
        given = {name: getattr(self._settings, name) for name in names}
        return {name: value for name, value in given.items() if value != getattr(Settings(), name)}

    def _serve(self) -> OperatingServer | None:
        settings = self._settings
        if settings.metrics_port is None:
            return None
        from streamflow.metrics.operating_server import serve

        token = None if settings.metrics_token is None else settings.metrics_token.reveal()
        try:
            return serve(self.registry, self.health, settings.metrics_port, settings.metrics_address, token)
        except ConfigError:
            if self._own_ports:
                self._ports.close()
            raise

    @property
    def metrics_port(self) -> int | None:
        """The port on which metrics are served: the one that was free, where 0 was asked for."""
        return None if self._operating is None else self._operating.port

    @property
    def metrics_url(self) -> str | None:
        """Where /metrics, /healthz and /readyz are served."""
        return None if self._operating is None else self._operating.url

    async def wait(self) -> JobResult:
        """Until it has ended; raises what made it fail."""
        await asyncio.shield(self._task)
        return self._result()

    async def stop(self, *, drain: bool = False) -> JobResult:
        """Read no more, process and commit what is in flight, and end. With checkpoints, and without `drain`, the last
        of them is taken: the next run goes on from there."""
        self._stopped = not self._task.done()
        self._stopping = drain
        if self._stopped and self.health.state != "failed":
            self.health.state = "stopping"
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
        """End as soon as nothing is being written any more; what is not committed is discarded."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, until the end."""
        return self._reporter.elapsed

    def status(self) -> JobStatus:
        """Its figures now."""
        if not self._task.done():
            state = str(self.health.state)
        elif self._task.cancelled() or self._task.exception() is not None:
            state = "failed"
        else:
            state = "stopped" if self._stopped else "finished"
        return self._reporter.status(state, (*self._launcher.notes, *self._notes))

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
