"""A job's reports: its status, and its whole-job metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Final, Protocol

from streamflow.distribution import __version__
from streamflow.graph.logical import LogicalGraph, SinkNode, SourceNode
from streamflow.graph.physical import PhysicalPlan, PhysicalTask
from streamflow.observe.health import STATES, Health
from streamflow.observe.logs import told
from streamflow.observe.registry import MetricsRegistry
from streamflow.observe.status import CheckpointStatus, JobStatus, OperatorStatus, PublicationStatus
from streamflow.observe.why import Wait
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.checkpoints.taking import CheckpointMetrics
from streamflow.runtime.control.restart import RestartPolicy
from streamflow.runtime.coordinator import Coordinator
from streamflow.runtime.figures import Figures
from streamflow.runtime.profile import ExecutionProfile
from streamflow.time.clock import Clock
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["Reported", "Reporter"]

_LAG: Final = "streamflow_kafka_lag_records"
_HOLDER: Final = "streamflow_watermark_holder_lag_seconds"
_TOLD_AFTER: Final = 60.0
"""Seconds after which a split that holds others back is named."""
_LOG: Final = logging.getLogger("streamflow.source")


class Reported(Protocol):
    """An attempt at running the job, wherever its workers are."""

    @property
    def coordinator(self) -> Coordinator: ...

    def figures(self, *, holds: bool) -> Figures:
        """The workers' figures together; `holds`: also what operators hold back, which may take long."""
        ...


class Reporter:
    """Reads figures where they arise; changes nothing but metrics. `attempt` is the present one."""

    def __init__(
        self,
        graph: LogicalGraph,
        plan: PhysicalPlan,
        profile: ExecutionProfile,
        registry: MetricsRegistry,
        checkpoints: CheckpointMetrics | None,
        restarts: RestartPolicy,
        health: Health,
        clock: Clock,
    ) -> None:
        self._graph = graph
        self._plan = plan
        self._profile = profile
        self._registry = registry
        self._checkpoints = checkpoints
        self._restarts = restarts
        self._health = health
        self._clock = clock
        self._started = clock.monotonic()
        self._ended: float | None = None
        self._holders: dict[tuple[str, int], str] = {}
        self._held_since: dict[tuple[str, int], tuple[str, int, float]] = {}
        self._told_holders: set[tuple[tuple[str, int], str]] = set()
        self._meeting = _meeting(plan)
        """For each task that reads, those whose records meet its own."""
        self.attempt: Reported | None = None
        registry.whole.refreshed_by(self._refresh)
        info = {"version": __version__, "mode": profile.name}
        registry.whole.gauge("streamflow_job_info", "1; the labels name the version and the mode", info).set(
            1
        )

    def _figures(self, *, holds: bool = False) -> Figures:
        return Figures() if self.attempt is None else self.attempt.figures(holds=holds)

    def rescale(self, plan: PhysicalPlan) -> None:
        """Reports on another plan of the same job from now on."""
        self._plan = plan
        self._meeting = _meeting(plan)

    def end(self) -> None:
        """Ends the reports: ages stand still."""
        self._ended = self._clock.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start, until the end."""
        return self._now() - self._started

    def status(self, state: str, notes: tuple[str, ...]) -> JobStatus:
        """The job's present figures."""
        self._registry.refresh()
        figures = self._figures()
        operators = [self._operator(id, kind, task, figures) for id, kind, task in self._operators()]
        taken = {each.operator: each.records_in for each in operators}
        nodes = self._graph.nodes
        return JobStatus(
            job=self._graph.job,
            mode=self._profile.name,
            state=state,
            elapsed=self.elapsed,
            records_read=sum(taken.get(node.id, 0) for node in nodes if isinstance(node, SourceNode)),
            records_written=sum(taken.get(node.id, 0) for node in nodes if isinstance(node, SinkNode)),
            watermark=_known(figures.watermark),
            epoch=0 if self.attempt is None else self.attempt.coordinator.epoch,
            operators=tuple(operators),
            checkpoint=self._checkpoint(),
            restarts=self._restarts.restarts,
            notes=notes,
            publication=self._publication(),
            time=self._clock.now(),
            ended=figures.watermark == MAX_TIME,
        )

    def why(self) -> tuple[Wait, ...]:
        """The results that wait, in the plan's order, those for event time each with the split that holds it back; then
        the commit that has been under way for long.
        Called on the job's event loop."""
        figures = self._figures(holds=True)
        waits = [
            self._wait(id, waiting, task, figures)
            for task in self._plan.tasks
            for id, waiting in figures.holds.get(task.id, ())
        ]
        commits = [] if self.attempt is None else self.attempt.coordinator.committing
        return (*waits, *(self._under_way(id, waiting) for id, waiting in commits))

    def _under_way(self, id: str, waiting: Waiting, watermark: int | None = None) -> Wait:
        now = self._clock.now()
        return Wait(id, waiting.what, None, waiting.rows, watermark, clock=now, since=waiting.since)

    def _wait(self, id: str, waiting: Waiting, task: PhysicalTask, figures: Figures) -> Wait:
        marks = figures.watermarks
        until = waiting.until if waiting.until < MAX_TIME else None
        watermark = _known(marks.get(task.id, MIN_TIME))
        if waiting.since is not None:
            return self._under_way(id, waiting, watermark)
        if waiting.by_clock:
            return Wait(id, waiting.what, until, waiting.rows, watermark, clock=self._clock.now())
        # Up the graph, from each task to the one whose watermark is the smallest.
        through: list[str] = []
        at = task
        while at.source is None:
            edges = [edge for edge in self._plan.edges if edge.lower == at.id]
            slowest = min(edges, key=lambda edge: marks.get(edge.upper, MIN_TIME))
            through.append(slowest.reads.node)
            at = self._plan.task(slowest.upper)
        held_back = [each for each in figures.sources.get(at.id, ()) if each.held_back_by is not None]
        holder = min(held_back, key=lambda each: each.watermark, default=None)
        strategy, held = at.source.watermark, None if holder is None else _known(holder.held_back_at)
        return Wait(
            operator=id,
            what=waiting.what,
            until=until,
            rows=waiting.rows,
            watermark=watermark,
            through=tuple(through),
            source=at.source.id,
            split=None if holder is None else holder.held_back_by,
            latest=None if held is None else held + strategy.bound + 1,
            bound=strategy.bound,
            idle_after=strategy.idle_after,
        )

    def note_holders(self) -> None:
        """Notes the split that holds each source subtask's watermark back. Called on the job's event loop."""
        if self.attempt is None:
            return
        figures, now = self._figures(), self._clock.now()
        holders: dict[tuple[str, int], str] = {}
        for task in self._plan.tasks:
            if task.source is None:
                continue
            for each in figures.sources.get(task.id, ()):
                subtask, split, watermark = each.subtask, each.held_back_by, each.watermark
                if split is None or watermark >= MAX_TIME:
                    continue
                held = self._held(task, subtask, split, watermark, figures)
                if watermark <= MIN_TIME and held < _TOLD_AFTER:
                    continue
                holders[task.source.id, subtask] = split
                metrics = self._registry.operator(task.source.id, subtask)
                lag = metrics.gauge(
                    _HOLDER,
                    "Processing time minus watermark, by the split that holds it back",
                    {"split": split},
                )
                # Before its first record a split has no event time: what is known is how long that has been so.
                lag.set((now - watermark) / 1e6 if watermark > MIN_TIME else held)
        for (source, subtask), split in self._holders.items():
            if holders.get((source, subtask)) != split:
                self._registry.operator(source, subtask).remove(_HOLDER, {"split": split})
        self._holders = holders

    def _held(self, task: PhysicalTask, subtask: int, split: str, watermark: int, figures: Figures) -> float:
        """The seconds for which the split has held the watermark there; logs a warning after a minute of holding
        others back for good."""
        assert task.source is not None
        now, key = self._clock.monotonic(), (task.source.id, subtask)
        before = self._held_since.get(key)
        if before is None or before[:2] != (split, watermark):
            before = self._held_since[key] = (split, watermark, now)
        held = now - before[2]
        strategy = task.source.watermark
        if held < _TOLD_AFTER or strategy.idle_after is not None or (key, split) in self._told_holders:
            return held
        meeting = (each for met in self._meeting[task.id] for each in figures.sources.get(met.id, ()))
        if any(each.furthest > watermark for each in meeting):
            self._told_holders.add((key, split))
            _LOG.warning(
                'split is quiet and holds windows open: give idle_after, as in bounded_disorder(…, idle_after="1m")',
                extra=told(source=task.source.id, split=split, seconds=round(held)),
            )
        return held

    def _now(self) -> float:
        return self._clock.monotonic() if self._ended is None else self._ended

    def _refresh(self) -> None:
        """Refreshes the metrics that no operator counts, before a scrape."""
        whole, current = self._registry.whole, self._health.state
        for state in STATES:
            gauge = whole.gauge(
                "streamflow_job_state", "1 for the state that the job is in", {"state": state}
            )
            gauge.set(state == current)
        whole.gauge("streamflow_job_uptime_seconds", "Seconds since the job was started").set(self.elapsed)
        whole.counter("streamflow_restarts_total", "Restarts after a failure").value = self._restarts.restarts
        status = self._checkpoint()
        if status is None or self._checkpoints is None:
            return
        for name, help, value in (
            ("checkpoints", "Checkpoints published", status.taken),
            ("checkpoint_failures", "Checkpoints that could not be stored", status.failed),
            (
                "checkpoint_retention_failures",
                "Times that old checkpoints could not be removed",
                self._checkpoints.not_removed,
            ),
        ):
            whole.counter(f"streamflow_{name}_total", help).value = value
        if status.number is None:
            return
        figures = (
            ("number", "The last checkpoint's number", float(status.number)),
            ("duration_seconds", "From the last checkpoint's beginning to its publication", status.duration),
            ("size_bytes", "Bytes that the last checkpoint consists of", status.nbytes),
            ("age_seconds", "Seconds since the last checkpoint", status.age),
        )
        for name, help, figure in figures:
            whole.gauge(f"streamflow_checkpoint_{name}", help).set(figure)

    def _checkpoint(self) -> CheckpointStatus | None:
        metrics = self._checkpoints
        if metrics is None:
            return None
        return CheckpointStatus(
            number=metrics.number,
            age=0.0 if metrics.number is None else self._now() - metrics.taken_at,
            duration=metrics.duration,
            nbytes=metrics.nbytes,
            taken=metrics.taken,
            failed=metrics.failed,
        )

    def _publication(self) -> PublicationStatus | None:
        known: dict[str, float] = {}
        subtasks = [each for sink in self._plan.sinks for each in self._registry.subtasks(sink.id)]
        for metric in chain.from_iterable(each.series for each in subtasks):
            if metric.name.startswith(_PUBLISHES):
                before = known.get(metric.name, 0.0)
                latest = metric.name.endswith("_seconds")
                known[metric.name] = max(before, metric.value) if latest else before + metric.value
        if not known:
            return None
        at = known.get("streamflow_publication_timestamp_seconds", 0.0)
        return PublicationStatus(
            waiting_records=int(known.get("streamflow_outbox_records", 0)),
            waiting_bytes=int(known.get("streamflow_outbox_bytes", 0)),
            published=int(known.get("streamflow_publications_total", 0)),
            retries=int(known.get("streamflow_publication_retries_total", 0)),
            duration=known.get("streamflow_publication_seconds", 0.0),
            age=None if at <= 0 else max(0.0, self._clock.now() / 1e6 - at),
        )

    def _operators(self) -> Iterator[tuple[str, str, PhysicalTask]]:
        """(id, kind, task) of every operator as it runs, in the plan's order."""
        for task in self._plan.tasks:
            if task.source is not None:
                yield task.source.id, "read", task
            yield from ((physical.id, physical.spec.kind, task) for physical in task.chain)
            yield from ((sink.id, "write", task) for sink in task.sinks)

    def _operator(self, id: str, kind: str, task: PhysicalTask, figures: Figures) -> OperatorStatus:
        watermark = figures.watermarks.get(task.id, MIN_TIME)
        totals = self._registry.totals(id)

        def total(name: str) -> int:
            return int(totals.get(f"streamflow_{name}", 0.0))

        def ratio(name: str) -> float:
            return totals.get(f"streamflow_{name}_ratio", 0.0) / task.parallelism

        sources = figures.sources.get(task.id, ()) if kind == "read" else ()
        return OperatorStatus(
            operator=id,
            kind=kind,
            parallelism=task.parallelism,
            records_in=total("records_in_total"),
            records_out=total("records_out_total"),
            bytes_in=total("bytes_in_total"),
            late_dropped=total("late_records_dropped_total"),
            errors=total("record_errors_total"),
            in_no_window=total("records_in_no_window_total"),
            watermark=_known(watermark),
            busy=ratio("busy"),
            backpressured=ratio("backpressured"),
            held_back_by=next((held for each in sources if (held := each.held_back_by) is not None), None),
            late=total("late_records_total"),
            lag_records=int(totals[_LAG]) if kind == "read" and _LAG in totals else None,
            ended=watermark == MAX_TIME,
            duplicates=total("records_duplicate_total"),
        )


def _known(watermark: int) -> int | None:
    return watermark if MIN_TIME < watermark < MAX_TIME else None


_PUBLISHES: Final = ("streamflow_outbox_", "streamflow_publication")


def _meeting(plan: PhysicalPlan) -> dict[str, list[PhysicalTask]]:
    return {task.id: tasks for tasks in plan.meeting() for task in tasks}
