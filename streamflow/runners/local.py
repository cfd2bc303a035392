"""The handle on a job of this process: its subtasks run here, on the running event loop, or on a pool of workers."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamflow.config import Settings
from streamflow.errors import ConfigError, StateError, StreamflowError
from streamflow.graph.logical import LogicalGraph, OperatorNode
from streamflow.graph.physical import PhysicalPlan
from streamflow.observe.health import Health
from streamflow.observe.logs import CURRENT_JOB, reason, told
from streamflow.observe.registry import MetricsRegistry
from streamflow.observe.status import JobResult, JobStatus
from streamflow.observe.why import Wait
from streamflow.operators.contract.source import InstanceClaim
from streamflow.runners.autoscaling import Autoscaler, parse_autoscale
from streamflow.runners.reporting import Reporter
from streamflow.runners.watch import Watch
from streamflow.runtime.attempt import Attempt, InlineAttempt
from streamflow.runtime.control.placement import Placement
from streamflow.runtime.control.restart import RestartPolicy
from streamflow.runtime.coordinator import Coordinator
from streamflow.runtime.launching import Launcher
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.waiting import Signal, until
from streamflow.state.checkpoints.blobs import UnreachableError

if TYPE_CHECKING:
    from streamflow.observe.operating import OperatingServer
    from streamflow.runners.processes.pool import WorkerPool

__all__ = ["LocalJob"]

_LOG: Final = logging.getLogger("streamflow.job")
_PATIENCE: Final = 5.0
"""Seconds after which a stop says what it waits for."""


@dataclass(frozen=True, slots=True)
class Rescaling:
    """A change of parallelism under way; `up` is done when the job runs by these settings and this plan. `begun`: the
    attempt before has ended, and the next one has them."""

    settings: Settings
    plan: PhysicalPlan
    workers: int
    up: asyncio.Future[None]
    begun: bool = False


class LocalJob:
    """A job in this process; started when it is made, inside a running event loop.

    `planned` makes the physical plan of a graph under settings; a `pool` runs its subtasks, if there is one. Raises
    ConfigError if it cannot serve its metrics by the settings; nothing has been started then.
    """

    def __init__(
        self,
        graph: LogicalGraph,
        planned: Callable[[LogicalGraph, Settings], PhysicalPlan],
        profile: ExecutionProfile,
        settings: Settings,
        *,
        ports: Ports | None = None,
        claim: InstanceClaim | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        self._graph = graph
        self._profile = profile
        self._settings = settings
        self._restarts = RestartPolicy.of(settings)
        self._own_ports = ports is None
        self._ports = ports or Ports.of(settings)
        self.registry = MetricsRegistry(job=graph.job)
        self.health = Health(graph.job, self._ports.clock)
        self._planned = planned
        plan = planned(graph, settings)
        self._pool = pool
        make: Callable[..., Attempt] = InlineAttempt
        if pool is not None:
            from streamflow.runners.processes.attempt import PooledAttempt

            make = partial(PooledAttempt, pool)
        self._launcher = Launcher(
            graph,
            planned,
            plan,
            profile,
            settings,
            self._ports,
            self.registry,
            make=make,
            apart=pool is not None,
        )
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
        self._attempt: Attempt | None = None
        self._rescaling: Rescaling | None = None
        self._autoscaler = self._autoscaled(settings)
        self._up = asyncio.Event()
        self._stopping: bool | None = None
        self._stop_asked = Signal()
        self._stopped = False
        self._savepoint: str | None = None
        self._saved_at: str | None = None
        self._notes: list[str] = []
        self._claim = claim
        """Its share of the input, if copies agree on theirs: it ends when another copy has it."""
        self._operating = self._serve()
        self._task = asyncio.create_task(self._run())
        # A change that is asked for while the ended job lets go of what it has would wait for ever.
        self._task.add_done_callback(lambda _: self._give_up_rescaling("the job came to its end"))

    async def _run(self) -> None:
        CURRENT_JOB.set(self._graph.job)
        _LOG.info("job started", extra=told(mode=self._profile.name, **self._told_settings()))
        # Under virtual time nothing looks on: it would change what happens when.
        watching = asyncio.create_task(self._watch.run()) if self._own_ports else None
        scaling = None if self._autoscaler is None else asyncio.create_task(self._scale(self._autoscaler))
        keeping = None if self._claim is None else asyncio.create_task(self._keep(self._claim))
        ended = "failed"
        try:
            await self._work()
            ended = "stopped" if self._stopped else "finished"
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            self.health.failure = "it was ended at once" if cancelled else reason(error)
            self.health.state = "failed"
            raise
        finally:
            try:
                if self._pool is not None:
                    await self._pool.close()
                await self._launcher.close()
            finally:
                if scaling is not None:
                    scaling.cancel()
                await self._let_go(ended, watching, keeping)

    async def _let_go(
        self, ended: str, watching: asyncio.Task[None] | None, keeping: asyncio.Task[None] | None
    ) -> None:
        """Reports the end, and releases everything."""
        self._reporter.end()
        async with AsyncExitStack() as held:
            if self._operating is not None:
                held.callback(self._operating.close)
            if self._own_ports:
                held.callback(self._ports.close)
            if keeping is not None and self._claim is not None:
                keeping.cancel()
                held.push_async_callback(self._claim.close)
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

    def _autoscaled(self, settings: Settings) -> Autoscaler | None:
        if settings.autoscale is None:
            return None
        if not self._checkpointing:
            raise ConfigError("autoscale without checkpoints", hint="give a checkpoint_dir to go on from")
        policy = parse_autoscale(settings.autoscale)
        settings.with_parallelism(policy.most)
        return Autoscaler(policy, self._ports.clock.monotonic())

    async def _scale(self, autoscaler: Autoscaler) -> None:
        """Rescales the job as its policy decides."""
        while True:
            await self._ports.clock.sleep(autoscaler.pause)
            if self._attempt is None or self._stopping is not None or not self._up.is_set():
                continue
            busy = max((each.busy for each in self.status().operators), default=0.0)
            now = self._ports.clock.monotonic()
            parallelism = autoscaler.decide(self._settings.parallelism, busy, now)
            if parallelism is None:
                continue
            _LOG.info("job rescales itself", extra=told(parallelism=parallelism, busy=round(busy, 2)))
            try:
                await self.rescale(parallelism)
            except StreamflowError as error:
                _LOG.warning("job was not rescaled", extra=told(parallelism=parallelism, error=reason(error)))

    async def _keep(self, claim: InstanceClaim) -> None:
        await claim.lost()
        self._notes.append("another copy has this one's share of the input")
        _LOG.warning("share lost")
        await self.stop()

    async def _work(self) -> None:
        """Runs a worker to its end; after a failure, if the settings allow it, the next."""
        opened = False
        while True:
            taken = self._launcher.metrics.taken
            started = self._ports.clock.monotonic()
            try:
                if not opened:
                    await self._launcher.open()
                    if self._pool is not None:
                        await self._pool.open()
                    opened = True
                await self._begin_rescaled()
                self._attempt = self._reporter.attempt = await self._launcher.attempt()
                if self._stopping is not None:
                    self._stop_attempt(drain=self._stopping)
                elif self._rescaling is not None and not self._rescaling.begun:
                    self._attempt.coordinator.stop(drain=False)
                await self._attempt.run(self._is_up)
                if self._rescaled(self._attempt.coordinator):
                    continue
                self._note_what_was_left(self._attempt.coordinator)
                if self._savepoint is not None and (number := self._launcher.metrics.number) is not None:
                    self._saved_at = await self._saved(number, self._savepoint)
                return
            except Exception as failure:  # noqa: BLE001 — told below as what it came of
                error = await self._launcher.cause(failure)
                self._give_up_rescaling(f"the job failed meanwhile: {reason(error)}")
                wait = None
                if self._up.is_set() or self._passes(error):
                    progress = self._launcher.metrics.taken > taken
                    ran = self._ports.clock.monotonic() - started
                    wait = self._restarts.after(error, progress=progress, ran=ran)
                if wait is None or self._stopping is not None:
                    raise error from error.__cause__
                self._notes.append(f"restarted after: {error}")
                self.health.failure = reason(error)
                self.health.state = "restarting"
                why = told(after=reason(error), restarts=self._restarts.restarts, wait_seconds=wait / 1e6)
                _LOG.warning("job restarts", extra=why)
                del error
            if not await self._wait_to_restart(wait):
                return

    async def _wait_to_restart(self, wait: int) -> bool:
        """Whether to start again, after so many microseconds or as soon as the job is drained. A job that is stopped
        meanwhile ends at its last checkpoint."""
        await until([self._stop_asked.news], wait / 1e6, self._ports.clock)
        if self._stopping is False and self._savepoint is None:
            last = self._launcher.metrics.number
            stands = "there is no checkpoint yet" if last is None else f"checkpoint {last} stands"
            self._notes.append(f"stopped while it waited to start again: {stands}")
            return False
        self._free_attempt()
        return True

    def _free_attempt(self) -> None:
        """Frees the last run's content before the next one restores the same: its parts, and the frames that its error
        came through, hold each other. Under virtual time it may take as long as it likes."""
        self._attempt = self._reporter.attempt = None
        if self._own_ports:
            gc.collect()

    def _rescaled(self, coordinator: Coordinator) -> bool:
        """Whether the attempt ended so that the next one goes on with another parallelism."""
        rescaling = self._rescaling
        if rescaling is None or self._stopping is not None or not coordinator.suspended:
            self._give_up_rescaling("the job came to its end")
            return False
        self._free_attempt()
        return True

    async def _begin_rescaled(self) -> None:
        """Lets the next attempt have the parallelism that was asked for, if one was, be it after a failure."""
        rescaling = self._rescaling
        if rescaling is None:
            return
        self._rescaling = replace(rescaling, begun=True)
        self._settings = rescaling.settings
        self._launcher.rescale(rescaling.settings, rescaling.plan)
        self._reporter.rescale(rescaling.plan)
        if self._pool is not None:
            await self._pool.resize(rescaling.workers)

    def _give_up_rescaling(self, why: str) -> None:
        rescaling, self._rescaling = self._rescaling, None
        if rescaling is not None and not rescaling.up.done():
            rescaling.up.set_exception(StateError(f"the job was not rescaled: {why}"))

    def _is_up(self) -> None:
        self._up.set()
        # One that was asked for while this attempt was being made is yet to come.
        if self._rescaling is not None and self._rescaling.begun:
            self._rescaling.up.set_result(None)
            self._rescaling = None
            _LOG.info("job rescaled", extra=told(parallelism=self._settings.parallelism))
        if self._stopping is None:
            self.health.state = "running"
        _LOG.info("job is running")

    def _told_settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        default = Settings()
        given = {name: getattr(self._settings, name) for name in Settings.names() if name != "mode"}
        return {name: value for name, value in given.items() if value != getattr(default, name)}

    def _serve(self) -> OperatingServer | None:
        settings = self._settings
        if settings.metrics_port is None:
            return None
        from streamflow.observe.operating import OperatingServer

        token = None if settings.metrics_token is None else settings.metrics_token.reveal()
        try:
            return OperatingServer(
                self.registry, self.health, settings.metrics_port, settings.metrics_address, token
            )
        except ConfigError:
            if self._own_ports:
                self._ports.close()
            raise

    @property
    def metrics_port(self) -> int | None:
        """The port on which metrics are served, also if 0 was asked for."""
        return None if self._operating is None else self._operating.port

    @property
    def metrics_url(self) -> str | None:
        """The address of /metrics, /healthz and /readyz."""
        return None if self._operating is None else self._operating.url

    async def wait(self) -> JobResult:
        """Waits for the job's end; raises its failure."""
        await asyncio.shield(self._task)
        return self._result()

    async def stop(self, *, drain: bool = False, savepoint: str | None = None) -> JobResult:
        """Stops reading, processes and commits records in flight, and ends. With checkpoints, and without `drain`, a
        last one is taken: the next run continues from there. It is copied to `savepoint`, a folder or object store:
        the result names the copy. If the place cannot be written, raises StateError, and the job goes on."""
        if savepoint is not None:
            self._check_savepoint(savepoint, drain=drain)
            if not self._task.done():
                await self._launcher.reach_target(savepoint)
            self._savepoint = savepoint
        self._stopped = not self._task.done()
        self._stopping = drain
        self._stop_asked.set()
        if self._stopped and self.health.state != "failed":
            self.health.state = "stopping"
        self._stop_attempt(drain=drain)
        telling = asyncio.create_task(self._tell_while_it_stops()) if self._own_ports else None
        try:
            return await self.wait()
        finally:
            if telling is not None:
                telling.cancel()

    def _stop_attempt(self, *, drain: bool) -> None:
        if self._attempt is not None:
            # Without any checkpoint there would be nothing to save.
            patient = self._savepoint is not None and self._launcher.metrics.number is None
            self._attempt.coordinator.stop(drain=drain, patient=patient)

    def _note_what_was_left(self, coordinator: Coordinator) -> None:
        if not coordinator.gave_up:
            return
        last = self._launcher.metrics.number
        if not self._checkpointing:
            records = (
                f"{coordinator.unprocessed} records that had been read were"
                if coordinator.unprocessed
                else "some were"
            )
            left = f"{records} not processed"
        elif last is None:
            left = "this one took no checkpoint, and the next begins where it began"
        else:
            left = f"the next run continues from checkpoint {last}, and reads the records after it again"
        self._notes.append(f"stopped without waiting for slow functions: {left}")
        _LOG.warning("slow functions were not waited for", extra=told(left=left))

    async def _tell_while_it_stops(self) -> None:
        """Logs who holds up a stop: a source or a sink whose function does not end, or a store that does not answer."""
        began = self._ports.clock.monotonic()
        while True:
            await self._ports.clock.sleep(_PATIENCE)
            subtasks = [] if self._attempt is None else self._attempt.coordinator.awaited
            waits_for = self._launcher.awaited or ", ".join(subtasks) or "the end of what is being stored"
            seconds = round(self._ports.clock.monotonic() - began)
            facts = told(seconds=seconds, waits_for=waits_for)
            _LOG.warning("the job is still stopping", extra=facts)

    async def checkpoint(self) -> int:
        """Takes a checkpoint now, or as soon as the job is rescaled; returns its number, once it is published and its
        output committed. Raises StateError if it fails, ConfigError if the job takes none."""
        while True:
            await self._is_running("take checkpoints while it runs")
            rescaling = self._rescaling
            if rescaling is not None:
                await asyncio.wait({rescaling.up})
                continue
            if self._attempt is None:
                raise StateError("the job is between two starts", hint="ask again when it runs")
            coordinator = self._attempt.coordinator
            try:
                return await coordinator.checkpoint()
            except StateError:
                if self._rescaling is None or not coordinator.gave_up:
                    raise

    async def _is_running(self, hint: str) -> None:
        """Waits until the job is up; raises StateError if it does not run any more, ConfigError without checkpoints."""
        if not self._checkpointing:
            raise ConfigError("this job takes no checkpoints", hint="start it with a checkpoint_dir")
        starting = asyncio.ensure_future(self._up.wait())
        await asyncio.wait({starting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if self._task.done():
            raise StateError("the job is not running", hint=hint)

    async def rescale(self, parallelism: int) -> None:
        """Goes on with so many subtasks per operator: a checkpoint is taken, and the next attempt begins from it.
        Operators with a parallelism of their own keep it. Returns when the job is up again. Raises ConfigError for a
        parallelism that the job cannot have, and if it takes no checkpoints; StateError if it failed or ended
        meanwhile."""
        await self._is_running("rescale it while it runs")
        if self._rescaling is not None:
            raise StateError("the job is being rescaled", hint="ask again when that is over")
        settings = self._settings.with_parallelism(parallelism)
        plan = self._planned(self._graph, settings)
        from streamflow.runners.processes.opening import workers_for

        workers = min(workers_for(plan, settings), max(task.parallelism for task in plan.tasks))
        if self._pool is not None:
            Placement(plan, workers)
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rescaling = Rescaling(settings, plan, workers, up)
        if self._attempt is not None:
            self._attempt.coordinator.stop(drain=False)
        await asyncio.shield(up)

    async def savepoint(self, url: str) -> str:
        """Takes a checkpoint and copies it to `url`, a folder or object store; returns the value for `restore`.
        Raises ConfigError for an invalid place."""
        self._launcher.check_target(url)
        number = await self.checkpoint()
        return await self._saved(number, url)

    async def _saved(self, number: int, url: str) -> str:
        assert self._attempt is not None
        return await self._launcher.savepoint(number, url, self._attempt.coordinator.noted.get(number, {}))

    def _check_savepoint(self, url: str, *, drain: bool) -> None:
        if drain:
            raise ConfigError(
                "a job that is drained cannot be continued, from a savepoint neither",
                hint="leave out one of them",
            )
        if not self._checkpointing:
            raise ConfigError("this job takes no checkpoints", hint="start it with a checkpoint_dir")
        self._launcher.check_target(url)

    async def cancel(self) -> None:
        """Ends as soon as nothing is being written any more; uncommitted output is discarded."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, until the end."""
        return self._reporter.elapsed

    def status(self) -> JobStatus:
        """The job's present figures."""
        if not self._task.done():
            state = str(self.health.state)
        elif self._task.cancelled() or self._task.exception() is not None:
            state = "failed"
        else:
            state = "stopped" if self._stopped else "finished"
        return self._reporter.status(state, (*self._launcher.notes, *self._notes))

    def why(self) -> tuple[Wait, ...]:
        """The results that wait: a window that has not closed, a timer, a row that may find a partner; each with the
        watermark that it waits for and the split that holds it back, or with the processing time."""
        return self._reporter.why()

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
            in_no_window=sum(operator.in_no_window for operator in status.operators),
            errors=sum(operator.errors for operator in status.operators),
            epochs=status.epoch,
            stopped=self._stopped,
            restarts=status.restarts,
            checkpoint=status.checkpoint,
            notes=status.notes,
            operators=status.operators,
            savepoint=self._saved_at,
            duplicates=sum(operator.duplicates for operator in status.operators),
        )

    def _passes(self, error: Exception) -> bool:
        """Whether an error of a job in which nothing has run yet is likely to pass: its user had better know the
        others."""
        if self._pool is None:
            return isinstance(error, UnreachableError)
        from streamflow.runners.processes.pool import WorkerLostError

        return isinstance(error, (WorkerLostError, UnreachableError))
