"""A job made ready to be simulated: its ends replaced, its input read, its plans made, its expected results known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from streamflow.api.job import Job
from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.disk import Disk
from streamflow.graph.logical import LogicalGraph, Node, SinkNode, SourceNode
from streamflow.graph.physical import PhysicalPlan
from streamflow.operators.contract.sink import Sink
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import profile_for
from streamflow.testing.modes import check_key, is_changing, replacing_key
from streamflow.testing.results import difference, final_rows
from streamflow.testing.rows import values_of
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.cluster import MakePool
from streamflow.testing.simulation.sample import samples_of
from streamflow.testing.simulation.schedule import Schedule
from streamflow.testing.simulation.sink import CaptureSink, captured
from streamflow.testing.simulation.source import Arrivals, SimSource
from streamflow.time.timestamps import Duration, parse_duration

__all__ = ["CHECKPOINTS", "Beside", "Judge", "OwnSink", "Rows", "Scenario"]

CHECKPOINTS: Final = Path("/simulated/checkpoints")
_OUTPUT: Final = Path("/simulated/output")

Rows = Mapping[str, tuple[int, ...]]
"""The records of each source that come, by the source's id; all of them for a source that is not named."""
Results = dict[str, list[Any]]
OwnSink = tuple[Sink, Callable[[Disk], list[Any]]]
"""A sink that writes to its disk (`SinkContext.disk`), and a function that reads its visible output there."""
Judge = Callable[[Results, Results], str | None]
"""A function that is given the records by source and the visible output by sink, and says what is wrong; None if
nothing is."""


class Beside(Protocol):
    """A system beside the job that outlives its processes (a simulated log), and begins again with each life; a calm
    one has no disturbances."""

    def begin(self, seed: int | str, *, calm: bool = False) -> None: ...


class Scenario:
    """One job under simulation. Holds no state of a single run except the records that its sources are about to
    give."""

    def __init__(
        self,
        job: Job | Callable[[], Job],
        *,
        rows: int = 200,
        key: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        tolerance: float = 1e-9,
        keep_order: bool = False,
        sinks: Mapping[str, OwnSink] | None = None,
        sources: Collection[str] = (),
        beside: Sequence[Beside] = (),
        settings: Mapping[str, Any] | None = None,
        late: Duration = "0s",
        judge: Judge | None = None,
    ) -> None:
        """`judge` takes the place of the comparison with a batch run, for jobs whose output is not one thing."""
        made = job if isinstance(job, Job) else job()
        made.plan()  # the checks that a run makes
        check_key(made.graph, key)
        self._key = key
        self._tolerance = tolerance
        self._keep_order = keep_order
        self._late = parse_duration(late, what="late")
        self._judge = judge
        self._given = dict(settings or {})
        self._beside = tuple(beside)
        nodes = made.graph.nodes
        self.samples = samples_of(
            LogicalGraph(made.graph.job, tuple(each for each in nodes if each.id not in sources)), rows
        )
        self._arrivals = {id: Arrivals() for id in self.samples}
        self._sinks = dict(sinks or {})
        self._reads: dict[str, Callable[[Disk], list[Any]]] = {}
        self.graph = LogicalGraph(made.graph.job, tuple(self._replaced(node) for node in nodes))
        self._plans: dict[tuple[int, int], PhysicalPlan] = {}
        self._settings: dict[tuple[tuple[str, Any], ...], Settings] = {}

    @property
    def timed(self) -> bool:
        """Whether no record can be late: all have event times, and they come within the declared bound."""
        every_time = all(sample.times is not None for sample in self.samples.values())
        return every_time and not self._keep_order and self._judge is None

    def arrange(self, schedule: Schedule, number: int) -> None:
        """Sets the sources' records by the schedule; the process with this number reads in its own steps."""
        if not number:
            self._begin(schedule.seed)
        for id, sample in self.samples.items():
            chosen = schedule.rows.get(id, range(len(sample)))
            chance = Chance(f"arrivals/{schedule.seed}/{id}")
            arrivals = self._arrivals[id]
            arrivals.most = schedule.batch_rows
            arrivals.pace = schedule.pace
            arrivals.quiet = schedule.quiet
            arrivals.chance = Chance(f"pace/{schedule.seed}/{number}/{id}")
            if number:
                continue
            if self._keep_order:
                arrivals.splits = [sample.take(chosen)]
                continue
            splits: list[list[int]] = [[] for _ in range(schedule.splits)]
            for row in sample.arrival(chosen, chance, self._late):
                chance.one_of(splits).append(row)
            arrivals.splits = [sample.take(split) for split in splits]

    def arrange_as_recorded(self, rows: Rows) -> None:
        """Sets the sources to give these records as they came, at once."""
        self._begin("as recorded", calm=True)
        for id, sample in self.samples.items():
            arrivals = self._arrivals[id]
            arrivals.splits = [sample.take(rows.get(id, range(len(sample))))]
            arrivals.most = len(sample)
            arrivals.pace = arrivals.quiet = 0

    def start(
        self, ports: Ports, *, pool: MakePool | None = None, workers: int = 0, **settings: Any
    ) -> LocalJob:
        """Starts the job on the running event loop; its subtasks are in a pool of so many workers, if there is one."""
        resolved = self._resolved(settings)
        profile = profile_for(resolved.mode, resolved, bounded=True)
        made = None
        if pool is not None:
            made = pool(self.graph, self._plan, self._plan(self.graph, resolved), workers)
        return LocalJob(self.graph, self._plan, profile, resolved, ports=ports, pool=made)

    def results(self, disk: Disk) -> Results:
        """The visible output by sink, as it was written."""
        return {id: read(disk) for id, read in self._reads.items()}

    def wrong(self, rows: Rows, expected: Results, actual: Results) -> str | None:
        """The faults of the output for these records, as text; None if there are none. `expected`: that of the batch
        run."""
        if self._judge is not None:
            chosen = {id: rows.get(id, range(len(sample))) for id, sample in self.samples.items()}
            given = {id: list(values_of(self.samples[id].take(each))) for id, each in chosen.items()}
            return self._judge(given, actual)
        problems: list[str] = []
        for id, listed in expected.items():
            text = difference(self._final(id, listed), self._final(id, actual[id]), tolerance=self._tolerance)
            if text:
                problems.append(f"{id}: " + text.replace("\n", "\n  "))
        told = "\n".join(problems)
        return f"the results are not those of the batch run:\n{told}" if told else None

    def _begin(self, seed: int | str, *, calm: bool = False) -> None:
        for system in self._beside:
            system.begin(seed, calm=calm)

    def _final(self, sink: str, rows: list[Any]) -> list[Any]:
        # Where nothing is late a window gives one pane: a second one is a duplicate, and not the later of two.
        key = replacing_key(self.graph, sink, self._key)
        given = self._key.get(sink) if isinstance(self._key, Mapping) else self._key
        once = self.timed and not self._late
        return final_rows(rows, given if once else key, changing=is_changing(self.graph, sink))

    def _replaced(self, node: Node) -> Node:
        if isinstance(node, SourceNode) and node.id in self.samples:
            raw = node.source.output_type()
            return replace(node, source=SimSource(raw, self._arrivals[node.id], node.source.describe()))
        if isinstance(node, SinkNode):
            folder = _OUTPUT / node.id
            capturing = (CaptureSink(folder, node.sink.describe()), partial(captured, folder=folder))
            sink, self._reads[node.id] = self._sinks.get(node.id, capturing)
            return replace(node, sink=sink)
        return node

    def _plan(self, graph: LogicalGraph, settings: Settings) -> PhysicalPlan:
        widths = (settings.parallelism, settings.max_parallelism)
        if graph is not self.graph:
            return physical_plan(graph, settings)
        if widths not in self._plans:
            self._plans[widths] = physical_plan(graph, settings)
        return self._plans[widths]

    def _resolved(self, settings: Mapping[str, Any]) -> Settings:
        key = tuple(sorted(settings.items()))
        if key not in self._settings:
            given = {"state_backend": "memory", **self._given, **settings}
            self._settings[key] = Settings.resolve(given, environ={})
        return self._settings[key]
