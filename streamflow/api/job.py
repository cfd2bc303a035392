"""`Job`: where a program begins (`read`) and where it is run. Building a job reads no data and starts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import polars as pl

from streamflow.api.builder import GraphBuilder, with_place
from streamflow.api.physical import physical_plan
from streamflow.api.running import logging_for, run_on_loop, run_reporting, stopping_on_signals
from streamflow.api.stream import Stream
from streamflow.config import RunSettings, Settings
from streamflow.errors import ConfigError, JobDefinitionError, Where
from streamflow.graph.logical import EventTime, Input, LogicalGraph, SinkNode, SourceNode
from streamflow.graph.render import Plan
from streamflow.job_settings import leave_to_the_command
from streamflow.observe.status import JobResult, JobStatus
from streamflow.operators.contract.source import InstanceClaim, Source
from streamflow.operators.stateless.timestamps import AssignTimestamps
from streamflow.operators.stateless.user_functions import check_function, on_rows
from streamflow.runners.local import LocalJob
from streamflow.runners.program import Program
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import profile_for
from streamflow.time.clock import SystemClock
from streamflow.time.timestamps import Duration, Epoch
from streamflow.time.watermarks import BoundedDisorder, bounded_disorder

if TYPE_CHECKING:
    from streamflow.api.tables import Table

__all__ = ["Job"]


class Job:
    """A job: a graph of operators under construction, and the ways to run it.

    >>> import streamflow as sf
    >>> job = sf.Job("greetings")
    >>> words = job.read(sf.MemorySource([{"word": "hello"}, {"word": "hello"}]))
    >>> out = words.key_by("word").aggregate(n=sf.count()).collect()
    >>> result = job.run()
    >>> out.rows()
    [{'change': 'insert', 'word': 'hello', 'n': 2}]
    """

    def __init__(self, name: str = "job") -> None:
        given: object = name
        if not (isinstance(given, str) and given):
            raise JobDefinitionError(
                f"{name!r} cannot name a job", hint='give a text, like sf.Job("departures")'
            )
        self.name = name
        self._builder = GraphBuilder(name)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {len(self.graph.nodes)} operators)"

    @property
    def graph(self) -> LogicalGraph:
        """The logical graph as it stands."""
        return self._builder.graph

    def read(
        self,
        source: Source,
        *,
        event_time: EventTime | None = None,
        watermark: BoundedDisorder | Duration | None = None,
    ) -> Stream:
        """A stream of a source's records.

        `event_time` is a column name, an expression, an `sf.epoch(…)`, or a function of one row; without it records
        have the source's own event time, if it has any. `watermark` says how far behind the latest event others may
        come (default: no time at all): a duration like `"5s"`, or `sf.bounded_disorder(…)`, which can say more.
        Raises JobDefinitionError that names what does not fit, and SourceError if the source has to be opened to
        learn its schema and cannot be.
        """
        if not isinstance(source, Source):
            raise _no_source(source)
        id = self._builder.new_id("read")
        raw = with_place(id, source.output_type)
        if callable(event_time) and not isinstance(event_time, pl.Expr):
            check_function(event_time, "event_time=")
            event_time = on_rows(event_time, raw.schema, "event_time=")
        elif event_time is not None and not isinstance(event_time, (str, pl.Expr, Epoch)):
            raise JobDefinitionError(
                f"event_time is {event_time!r}",
                hint="name a column, or give an expression, sf.epoch(…) or a function",
            )
        timestamps = None if event_time is None else AssignTimestamps(event_time=event_time)
        type_ = raw if timestamps is None else with_place(id, lambda: timestamps.output_type([raw]))
        if watermark is not None and not type_.timed:
            raise JobDefinitionError(
                "a watermark without event time", hint='give event_time="column" as well'
            )
        if watermark is None:
            watermark = bounded_disorder()
        elif not isinstance(watermark, BoundedDisorder):
            bound = watermark
            watermark = with_place(id, lambda: bounded_disorder(bound))
        node = SourceNode(id, source, type_, timestamps, watermark)
        return Stream(self._builder, Input(self._builder.add(node)))

    def table(
        self,
        source: Source,
        *,
        key: str | Sequence[str],
        event_time: EventTime | None = None,
        watermark: BoundedDisorder | Duration | None = None,
        deleted: pl.Expr | None = None,
    ) -> Table:
        """A table of a source's records: the latest row of each `key`, to join streams with.

        With `event_time` it has a history, and a stream looks rows up as of its own event time; without it the last
        row that came counts. A row for which `deleted` is true says that its key is gone. Other arguments and errors
        are those of `read`.

        >>> import polars as pl, streamflow as sf
        >>> job = sf.Job("orders")
        >>> orders = job.read(sf.MemorySource([{"item": "a", "n": 3}]))
        >>> prices = job.table(sf.MemorySource([{"item": "a", "price": 5}]), key="item")
        >>> priced = orders.join(prices, on="item").collect()
        >>> _ = job.run()
        >>> priced.rows()
        [{'item': 'a', 'n': 3, 'price': 5}]
        """
        from streamflow.api.tables import table_of

        stream = self.read(source, event_time=event_time, watermark=watermark)
        return table_of(stream, key, deleted, versioned=event_time is not None)

    def plan(self, *, physical: bool = False, **settings: Unpack[RunSettings]) -> Plan:
        """The job's plan, with `.text()` and `.mermaid()`; with `physical` the plan of tasks under these settings."""
        self._check()
        resolved = Settings.resolve(settings)
        return Plan(self.graph, physical_plan(self.graph, resolved) if physical else None)

    def run(
        self, *, progress: Callable[[JobStatus], None] | None = None, **settings: Unpack[RunSettings]
    ) -> JobResult:
        """Runs the job to its end and returns a result with its counters.

        Settings (`mode`, `parallelism`, `metrics_port`, …) are those of `streamflow.config.Settings`. `progress` is
        called with the status a few times a second. SIGINT and SIGTERM stop the job cleanly, a second one at once.
        Raises what the failing operator raised; nothing that was not committed is visible then. While a command such as
        `streamflow run` loads the file, the job is left to the command and the rest of the file is not read.
        """
        leave_to_the_command()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return run_on_loop(self._run_async(progress, settings, signals=True))
        raise ConfigError("run() was called inside a running event loop", hint="use: await job.run_async(…)")

    async def run_async(
        self, *, progress: Callable[[JobStatus], None] | None = None, **settings: Unpack[RunSettings]
    ) -> JobResult:
        """`run` for programs that have an event loop of their own; such a program handles signals itself."""
        return await self._run_async(progress, settings, signals=False)

    async def start(self, *, ports: Ports | None = None, **settings: Unpack[RunSettings]) -> LocalJob:
        """Starts the job on the running event loop and returns its handle."""
        leave_to_the_command()
        self._check()
        resolved = Settings.resolve(settings)
        profile = profile_for(resolved.mode, resolved, bounded=self.graph.bounded)
        if profile.name == "batch" and not self.graph.bounded:
            raise JobDefinitionError(
                "batch mode needs input that ends",
                hint="run it in streaming or micro-batch mode, or bound its sources",
            )
        if resolved.checkpoint_dir is not None:
            self._check_replayable()
        pool = None
        if resolved.runner != "local" and ports is None:
            from streamflow.runners.processes.opening import pool_for

            plan = physical_plan(self.graph, resolved)
            pool = pool_for(self.graph, plan, resolved, lambda: Program.holding(self), SystemClock())
        claim: InstanceClaim | None = None
        if resolved.instance[1] > 1:
            self._check_shareable()
        if resolved.instance[0] is None:
            claim, resolved = await self._agreed(resolved)
        try:
            return LocalJob(
                self.graph,
                physical_plan,
                profile,
                resolved,
                ports=ports,
                claim=claim,
                pool=pool,
            )
        except BaseException:
            if claim is not None:
                await claim.close()
            raise

    async def _agreed(self, settings: Settings) -> tuple[InstanceClaim, Settings]:
        """The share of this copy among the copies of the job, after all have agreed on one.

        The claim on the checkpoints keeps out the copy that had the share before: that copy may hang and hold the
        lock.
        """
        if settings.checkpoint_dir is None:
            raise ConfigError(
                "copies that agree on their shares take over from each other",
                hint="give a checkpoint_dir that all of them reach",
            )
        count = settings.instance[1]
        sources = [node.source for node in self.graph.nodes if isinstance(node, SourceNode)]
        claim = sources[0].share(self.name, count)
        if claim is None:
            raise ConfigError(
                f"copies cannot agree through {sources[0].describe()}", hint="give each its number, like 2/4"
            )
        try:
            index = await claim.take()
        except BaseException:
            await claim.close()
            raise
        return claim, replace(settings, instance=(index, count), checkpoint_lock=False)

    async def _run_async(
        self, progress: Callable[[JobStatus], None] | None, settings: RunSettings, *, signals: bool
    ) -> JobResult:
        resolved = Settings.resolve(settings)
        if progress is not None and not callable(progress):  # pyright: ignore[reportUnnecessaryComparison]
            raise ConfigError(
                f"progress is {progress!r}", hint="give a function of a JobStatus, or leave it out"
            )
        if resolved.control_port is not None:
            raise ConfigError(
                "control_port: run() has no control server",
                hint="run the file with `streamflow run --control-port`, or start() the job and serve its handle with "
                "streamflow.web.control_server.controlled(handle, port)",
            )
        with logging_for(resolved) if signals else nullcontext():
            handle = await self.start(**settings)
            with stopping_on_signals(handle) if signals else nullcontext():
                return await run_reporting(handle, progress)

    def _check_shareable(self) -> None:
        for node in self.graph.nodes:
            if isinstance(node, SourceNode) and not node.source.shareable:
                raise JobDefinitionError(
                    f"each copy would read all of {node.source.describe()}",
                    where=Where(operator=node.id),
                    hint="copies can share topics; run a job that reads something else alone",
                )

    def _check_replayable(self) -> None:
        for node in self.graph.nodes:
            if isinstance(node, SourceNode) and not node.source.replayable:
                raise JobDefinitionError(
                    f"{node.source.describe()} can only be read from its beginning, so the job "
                    "could not continue from a checkpoint",
                    where=Where(operator=node.id),
                    hint="give its function a parameter `start` (see sf.source), or leave checkpoint_dir out",
                )

    def _check(self) -> None:
        if not any(isinstance(node, SinkNode) for node in self.graph.nodes):
            raise JobDefinitionError(
                f"job {self.name} writes nothing", hint="end it with .write(sink) or .collect()"
            )


def _no_source(given: object) -> JobDefinitionError:
    """The error for something that is no source; DataFrames and rows are those of `MemorySource`."""
    name = type(given).__name__
    in_memory = isinstance(given, pl.DataFrame | pl.LazyFrame | list | tuple)
    hint = 'give a source, like sf.FileSource("in.ndjson")'
    if in_memory:
        hint = "give sf.MemorySource(…) of it"
    elif isinstance(given, Stream):
        hint = 'it has been read; a stream becomes a table with to_table("key")'
    shown = f"a {name}" if in_memory else repr(given)
    return JobDefinitionError(f"read got {shown}", hint=hint)
