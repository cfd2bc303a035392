"""`TestJob`: a user's job under virtual time. Sources give the test's records, sinks gather, nothing sleeps.

The job's graph is taken as it is; only its two ends and its surroundings (clock, threads, event loop) are replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, Self, TypeVar

import polars as pl

from streamflow.api.job import Job
from streamflow.api.physical import physical_plan
from streamflow.arguments import whole_number
from streamflow.config import Settings
from streamflow.errors import JobDefinitionError, unknown_name
from streamflow.graph.logical import LogicalGraph, Node, SinkNode, SourceNode
from streamflow.graph.physical import PhysicalPlan
from streamflow.observe.status import JobResult, JobStatus
from streamflow.observe.why import Wait
from streamflow.operators.connectors.collect import Collected
from streamflow.operators.contract.source import Decoded
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Inline, Ports
from streamflow.runtime.profile import profile_for
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.testing.clock import TestClock
from streamflow.testing.ends import Gathered, gathering, stems
from streamflow.testing.rows import Times, batch_of
from streamflow.testing.scripted import ScriptedSource, ScriptedSplit
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.stepping import SteppedLoop
from streamflow.time.clock import SeededRandom
from streamflow.time.timestamps import MIN_TIME, Duration, parse_duration, to_micros

__all__ = ["TestJob", "TestOutput", "TestSource", "Watermarks"]

Watermarks = Literal["script", "job"]
_JOB: Final = "test"
_CHECKPOINTS: Final = "/checkpoints"
End = TypeVar("End")


class TestJob:
    """Runs a job step by step; use it as a context manager.

    After each `push`, `advance_watermark`, … all consequences have happened when the call returns; a failure of the
    job is raised there. With `watermarks="script"` event time moves only where the test says so; with `"job"` it
    follows the job's own strategy (disorder bound, idleness). `splits` says how many splits each source has (by
    source name, or one number for all). `settings` are those of `job.run`; the mode is streaming and state is kept
    in memory unless they say otherwise; environment variables do not count. Kafka's TopologyTestDriver is the model.

    Checkpoints go to a disk in memory, when `checkpoint` is called, or as often as `checkpoint_interval` says if it
    is given. `crash` ends the job like a killed process, `restore` continues from the last checkpoint (from the
    beginning with state in RocksDB, of which no checkpoints are taken).

    >>> import streamflow as sf
    >>> job = sf.Job("totals")
    >>> rows = job.read(sf.MemorySource([{"k": "a", "ts": 0, "v": 1}]), event_time=sf.epoch("ts", unit="s"))
    >>> out = rows.key_by("k").window(sf.tumbling("10s")).aggregate(total=sf.sum("v")).collect()
    >>> with TestJob(job) as t:
    ...     _ = t.source().push([{"k": "a", "ts": 3, "v": 4}, {"k": "a", "ts": 9, "v": 5}])
    ...     _ = t.source().advance_watermark(9_999_999)
    ...     [row["total"] for row in t.output().rows()]
    [9]
    """

    __test__: ClassVar[bool] = False  # not a pytest class

    def __init__(
        self,
        job: Job,
        *,
        watermarks: Watermarks = "script",
        splits: int | Mapping[str, int] = 1,
        clock: TestClock | None = None,
        **settings: Any,
    ) -> None:
        job.plan()  # the checks that a run makes
        if watermarks not in ("script", "job"):
            raise JobDefinitionError(f"watermarks is {watermarks!r}", hint='"script" or "job"')
        self._given = {"mode": "streaming", "state_backend": "memory", "restart": "none", **settings}
        if self._given["state_backend"] == "memory":
            # RocksDB writes to the real disk, where a crash under virtual time reaches nothing.
            self._given = {"checkpoint_dir": _CHECKPOINTS, "checkpoint_interval": "365d", **self._given}
        self.clock = clock or TestClock()
        self._settings = Settings.resolve(self._given, environ={})
        self._disk = SimDisk()
        self._crashed = False
        self._explicit = watermarks == "script"
        self._started: tuple[SteppedLoop, LocalJob] | None = None
        self._sources: dict[str, TestSource] = {}
        self._outputs: dict[str, TestOutput] = {}
        original = job.graph
        graph = self._scripted(original, splits)
        self._graph, gathered = gathering(graph)
        for node in original.nodes:
            if isinstance(node, SinkNode):
                self._outputs[node.id] = TestOutput(
                    gathered[node.id], frozenset({node.id, *stems(node.sink)})
                )

    def __enter__(self) -> Self:
        self._launch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started is not None:
            self._started[0].close_quietly()

    def checkpoint(self) -> TestJob:
        """Takes a checkpoint now."""
        loop, handle = self._running()
        loop.run_virtually(handle.checkpoint())
        return self

    def crash(self) -> TestJob:
        """Ends the job like `kill -9`: everything outside of a checkpoint is gone, also from the outputs."""
        loop, _ = self._running()
        epoch = max(self._checkpoints(), default=0)
        # Effects of the dying job, while its tasks are cancelled, must be lost.
        self._disk = self._disk.crash("kill", Chance(0))
        loop.close_quietly()
        self._started, self._crashed = None, True
        for output in self._outputs.values():
            output.take_back(epoch)
        return self

    def restore(self, **settings: Any) -> TestJob:
        """Continues after a crash from the last checkpoint, or from the beginning if there is none; with other
        settings (`parallelism=3`) if they are given. Sources repeat everything after it."""
        if not self._crashed:
            raise JobDefinitionError("there is nothing to restore", hint="call crash() before")
        self._settings = Settings.resolve({**self._given, **settings}, environ={})
        self._crashed = False
        self._launch()
        return self

    def source(self, name: str | None = None) -> TestSource:
        """A source by its operator's id, by the name of its file, folder or topic, or the only one."""
        return _one("source", name, self._sources, lambda source: source.names)

    def output(self, name: str | Collected | None = None) -> TestOutput:
        """The output of a sink, by its operator's id, by the name of its place, by its `collect()`, or the only one."""
        if isinstance(name, Collected):
            name = next(
                (id for id, output in self._outputs.items() if output.gathered.stands_for is name),
                "collect()",
            )
        return _one("output", name, self._outputs, lambda output: output.names)

    def advance_processing_time(self, duration: Duration) -> TestJob:
        """Lets time pass (`"10s"`); sleepers on the way wake at the right moments."""
        loop, _ = self._running()
        loop.advance_to(self.clock.now() + parse_duration(duration, what="the duration", positive=True))
        self._step()
        return self

    def finish(self) -> JobResult:
        """Ends every source and lets the job come to its end, whatever time it takes on the virtual clock."""
        loop, handle = self._running()
        for source in self._sources.values():
            source.end()
        return loop.run_virtually(handle.wait())

    def stop(self, *, drain: bool = False) -> JobResult:
        """Stops the job like `handle.stop()`: with `drain`, open windows count as complete."""
        loop, handle = self._running()
        return loop.run_virtually(handle.stop(drain=drain))

    def status(self) -> JobStatus:
        """The job's figures now: watermarks, counts of late and bad records."""
        return self._running()[1].status()

    def why(self) -> tuple[Wait, ...]:
        """The results that wait: those for event time each with the split that holds it back."""
        return self._running()[1].why()

    def metric(self, name: str, operator: str | None = None) -> float:
        """A metric summed over subtasks, of one operator or of all, as Prometheus would see it."""
        return self._running()[1].registry.total(name, operator)

    def _scripted(self, graph: LogicalGraph, splits: int | Mapping[str, int]) -> LogicalGraph:
        nodes: list[Node] = []
        unused = set(splits) if isinstance(splits, Mapping) else set[str]()
        for node in graph.nodes:
            if isinstance(node, SourceNode):
                names = frozenset({node.id, *stems(node.source)})
                unused -= names
                count = splits
                if isinstance(splits, Mapping):
                    count = next((splits[name] for name in names if name in splits), 1)
                count = whole_number(count, "splits")
                script = tuple(ScriptedSplit() for _ in range(count))
                source = ScriptedSource(
                    node.source.output_type(), script, node.source.describe(), self._settings.mode == "batch"
                )
                self._sources[node.id] = TestSource(
                    source, self._tell, self._is_running, names, node.timestamps is None, self._explicit
                )
                node = replace(node, source=source)
            nodes.append(node)
        for name in unused:
            message, hint = unknown_name("source", name, self._sources)
            raise JobDefinitionError(f"splits: {message}", hint=hint)
        return LogicalGraph(graph.job, tuple(nodes))

    def _launch(self) -> None:
        loop = SteppedLoop(self.clock)
        try:
            self._started = (loop, loop.run_virtually(self._start()))
            self._step()
        except BaseException:
            loop.close_quietly()
            raise

    def _checkpoints(self) -> list[int]:
        with CheckpointStore(open_blobs(_CHECKPOINTS, self._disk), _JOB, clock=self.clock) as store:
            return store.numbers()

    async def _start(self) -> LocalJob:
        settings = self._settings

        # Any name will do for a job under test; not so for a checkpoint's folder.
        def planned(graph: LogicalGraph, settings: Settings) -> PhysicalPlan:
            return physical_plan(replace(graph, job=_JOB), settings)

        ports = Ports(clock=self.clock, random=SeededRandom(0), disk=self._disk, io=Inline(), cpu=Inline())
        profile = profile_for(settings.mode, settings, bounded=self._graph.bounded)
        return LocalJob(self._graph, planned, profile, settings, ports=ports)

    def _running(self) -> tuple[SteppedLoop, LocalJob]:
        if self._crashed:
            raise JobDefinitionError("the job has crashed", hint="call restore() to go on")
        if self._started is None:
            raise JobDefinitionError(
                "the test job has not been started", hint="write: with TestJob(job) as t: …"
            )
        return self._started

    def _is_running(self) -> bool:
        return self.status().state == "running"

    def _step(self) -> None:
        """Runs everything that can run; raises the job's failure."""
        loop, handle = self._running()
        loop.settle()
        if handle.status().state == "failed":
            loop.run_virtually(handle.wait())

    def _tell(self, source: ScriptedSource, split: int | None, piece: Decoded | None) -> None:
        if not self._is_running():
            raise JobDefinitionError("the job has ended", hint="push before .end(), .finish() and .stop()")
        chosen = source.splits if split is None else source.splits[split : split + 1]
        if not chosen or (split is not None and split < 0):
            raise JobDefinitionError(
                f"no split {split} of {len(source.splits)}",
                hint="give their number: TestJob(job, splits=2)",
            )
        if piece is not None and any(each.ended for each in chosen):
            raise JobDefinitionError("the source has ended", hint="push before .end()")
        for each in chosen:
            if piece is None:
                each.end()
            else:
                each.tell(piece)
        self._step()


class TestSource:
    """One source under a test's control. Every method returns the source, so that calls can be chained."""

    __test__: ClassVar[bool] = False

    def __init__(
        self,
        source: ScriptedSource,
        tell: Callable[[ScriptedSource, int | None, Decoded | None], None],
        running: Callable[[], bool],
        names: frozenset[str],
        own_times: bool,
        explicit: bool,
    ) -> None:
        self.names = names
        self._source = source
        self._tell = tell
        self._running = running
        self._own_times = own_times
        self._explicit = explicit
        self._empty = batch_of([], source.type_)

    def push(
        self, records: pl.DataFrame | Iterable[Any], *, times: Times | None = None, split: int = 0
    ) -> TestSource:
        """Pushes records as the source would give them: dicts, bare values, or a DataFrame; one call is one batch.

        `times` are for streams whose records bring their own event time; a job that takes it from a column reads the
        column. Raises JobDefinitionError for records that do not fit the source's columns.
        """
        if times is not None and not self._own_times:
            raise JobDefinitionError(
                "the job takes event time from the records themselves",
                hint="put it there and leave times= out",
            )
        timed = self._source.type_.timed and self._own_times
        batch = batch_of(records, self._source.type_, times)
        if timed and times is None and batch.max_time is None:
            raise JobDefinitionError(
                "records of this source bring their own event time", hint="give times=[…]"
            )
        self._tell(self._source, split, Decoded(batch, watermark=MIN_TIME if self._explicit else None))
        return self

    def advance_watermark(self, time: datetime | str | int, *, split: int | None = None) -> TestSource:
        """Promises that no more events with a time up to and including `time` will come (in this split, or in any).

        A datetime, ISO 8601 text, or microseconds since 1970, in UTC. An earlier time than before has no effect.
        """
        self._tell(self._source, split, Decoded(self._empty, watermark=to_micros(time)))
        return self

    def idle(self, *, split: int | None = None) -> TestSource:
        """Marks the source as idle until the next push or watermark: no watermark waits for it."""
        self._tell(self._source, split, Decoded(self._empty, watermark=MIN_TIME, idle=True))
        return self

    def end(self, *, split: int | None = None) -> TestSource:
        """Ends the source: the watermark goes to +∞. Ending twice is ending once."""
        if self._running():
            self._tell(self._source, split, None)
        return self


class TestOutput:
    """The rows that a job has written to one sink so far."""

    __test__: ClassVar[bool] = False

    def __init__(self, gathered: Gathered, names: frozenset[str]) -> None:
        self.names = names
        self.gathered = gathered
        self._seen = 0

    def take_back(self, epoch: int) -> None:
        """Drops rows after an epoch's checkpoint."""
        self.gathered.take_back(epoch)
        self._seen = min(self._seen, len(self.gathered.rows()))

    def rows(self) -> list[Any]:
        """All records so far, in the order in which they were written: dicts for columns, else the values."""
        return self.gathered.rows()

    def new_rows(self) -> list[Any]:
        """The records since the last call of `new_rows`."""
        rows = self.gathered.rows()
        new, self._seen = rows[self._seen :], len(rows)
        return new

    def event_times(self) -> list[int]:
        """The event time of each record so far in microseconds; empty if the stream has none."""
        return self.gathered.event_times()

    def frame(self) -> pl.DataFrame:
        """All records so far as a DataFrame."""
        return self.gathered.frame()


def _one(
    kind: str, name: str | None, candidates: Mapping[str, End], names: Callable[[End], frozenset[str]]
) -> End:
    """The candidate of that name, or the only one; raises JobDefinitionError that names the known ones."""
    found = [each for each in candidates.values() if name is None or name in names(each)]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(candidates)
    if name is None:
        raise JobDefinitionError(f"the job has {len(found)} {kind}s: {ids}", hint="say which")
    if found:
        raise JobDefinitionError(
            f"{len(found)} {kind}s have the name {name!r}", hint=f"use an operator's id: {ids}"
        )
    message, hint = unknown_name(kind, name, {n for each in candidates.values() for n in names(each)})
    raise JobDefinitionError(message, hint=hint)
