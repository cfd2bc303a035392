"""`check_modes_agree`: one job, the same final results in every mode, parallelism and batch size.

The rule is law 2 of SEMANTICS §8, and what DESIGN §7 promises of modes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from streamflow.api.job import Job
from streamflow.config import Mode, Settings
from streamflow.errors import JobDefinitionError
from streamflow.graph.logical import LogicalGraph, OperatorNode, SinkNode
from streamflow.graph.planner import plan
from streamflow.operators.emission import WINDOW_COLUMNS
from streamflow.operators.rows import convert
from streamflow.operators.windowing import WindowAggregateSpec
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Inline, Ports
from streamflow.runtime.profile import profile_for
from streamflow.runtime.status import JobResult
from streamflow.testing.clock import TestClock
from streamflow.testing.ends import gathering
from streamflow.testing.results import difference, final_rows
from streamflow.testing.stepping import SteppedLoop
from streamflow.time.clock import SeededRandom

__all__ = ["check_modes_agree", "replacing_key"]

_MODES: Final[tuple[Mode, ...]] = ("batch", "micro-batch", "streaming")
Results = dict[str, list[Any]]


def check_modes_agree(
    job: Job | Callable[[], Job],
    *,
    modes: Sequence[Mode] = _MODES,
    parallelism: Sequence[int] = (1, 2, 3),
    batch_rows: Sequence[int] = (7, 1_000),
    key: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    tolerance: float = 1e-9,
    **settings: Any,
) -> Results:
    """Run a job in every combination and compare what its outputs come to; returns the results by the sinks' ids.

    The job reads its own sources, which have to be bounded; its sinks are replaced, so that nothing is written. Time is
    virtual and everything runs in one thread, so that a run can be repeated. `job` may be a function that makes it, for
    sources that can be read only once. Of changing results the end counts; of several panes of an accumulating window
    the last; `key` names the columns by which later rows replace earlier ones elsewhere (for all sinks, or by sink id).
    Floats may differ by `tolerance`, relatively.

    Raises AssertionError that shows the rows in which a combination differs, JobDefinitionError for an unbounded job.
    The promise is about data on time: what is late in one mode and not in another makes results differ.

    >>> import streamflow as sf
    >>> job = sf.Job("totals")
    >>> rows = job.read(sf.MemorySource([{"k": "a", "v": 1}, {"k": "a", "v": 2}]))
    >>> _ = rows.key_by("k").aggregate(total=sf.sum("v")).collect()
    >>> check_modes_agree(job)
    {'write-1': [{'k': 'a', 'total': 3}]}
    """
    reference: Results | None = None
    first = ""
    for mode, width, rows in product(modes, parallelism, batch_rows):
        name = f"{mode}, parallelism {width}, batches of {rows}"
        graph = _graph(job)
        given = {
            "state_backend": "memory",
            **settings,
            "mode": mode,
            "parallelism": width,
            "batch_rows": rows,
        }
        results, result = _run(graph, Settings.resolve(given, environ={}))
        final = {id: final_rows(listed, replacing_key(graph, id, key)) for id, listed in results.items()}
        if reference is None:
            reference, first = final, name
            continue
        problems = list(_problems(reference, final, tolerance))
        if problems:
            late = f"\n{result.dropped} records were dropped as late" if result.dropped else ""
            raise AssertionError(f"{name} differs from {first}:\n" + "\n".join(problems) + late)
    if reference is None:
        raise JobDefinitionError(
            "nothing to compare", hint="give at least one mode, parallelism and batch size"
        )
    return reference


def _graph(job: Job | Callable[[], Job]) -> LogicalGraph:
    made = job if isinstance(job, Job) else job()
    made.plan()  # the checks that a run makes
    graph = made.graph
    if not graph.bounded:
        raise JobDefinitionError(
            "modes can be compared over a finite input only", hint="bound the sources, or test with TestJob"
        )
    return graph


def _run(graph: LogicalGraph, settings: Settings) -> tuple[Results, JobResult]:
    replaced, gathered = gathering(graph)
    clock = TestClock()
    loop = SteppedLoop(clock)

    async def whole() -> JobResult:
        physical = plan(
            replaced,
            parallelism=settings.parallelism,
            max_parallelism=settings.max_parallelism,
            convert=convert,
        )
        ports = Ports(clock=clock, random=SeededRandom(0), io=Inline(), cpu=Inline())
        profile = profile_for(settings.mode, settings, bounded=True)
        return await LocalJob(replaced, physical, profile, settings, ports=ports).wait()

    try:
        result = loop.run_virtually(whole())
    finally:
        loop.close_quietly()
    return {id: each.rows() for id, each in gathered.items()}, result


def replacing_key(
    graph: LogicalGraph, sink: str, key: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> Sequence[str] | None:
    """By what later rows of a sink replace earlier ones: what the user says, else what an accumulating window says."""
    given = key.get(sink) if isinstance(key, Mapping) else key
    if given is not None:
        return given
    node = graph.node(sink)
    assert isinstance(node, SinkNode)
    upper = graph.node(node.input.node)
    if not isinstance(upper, OperatorNode) or not isinstance(upper.spec, WindowAggregateSpec):
        return None
    spec = upper.spec
    if spec.accumulation != "accumulating" or node.input.output != "main":
        return None
    schema = node.type.schema
    return [*spec.keys, *(name for name in WINDOW_COLUMNS if name in schema)]  # type: ignore[operator]


def _problems(reference: Results, final: Results, tolerance: float) -> Iterator[str]:
    for id, rows in reference.items():
        text = difference(rows, final[id], tolerance=tolerance)
        if text:
            yield f"  {id}: " + text.replace("\n", "\n    ")
