"""`check_modes_agree`: one job, the same final results in every mode, parallelism and batch size.

The rule is law 2 of SEMANTICS §8, and what DESIGN §7 promises of modes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from streamflow.api.job import Job
from streamflow.api.physical import physical_plan
from streamflow.arguments import names
from streamflow.config import Mode, Settings
from streamflow.core.schema import Schema
from streamflow.errors import JobDefinitionError, unknown_name
from streamflow.graph.logical import LogicalGraph, OperatorNode, SinkNode
from streamflow.observe.status import JobResult
from streamflow.operators.process.process import ProcessSpec
from streamflow.operators.windows.emission import WINDOW_COLUMNS
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.runners.local import LocalJob
from streamflow.runtime.ports import Inline, Ports
from streamflow.runtime.profile import profile_for
from streamflow.testing.clock import TestClock
from streamflow.testing.ends import gathering
from streamflow.testing.results import difference, final_rows
from streamflow.testing.stepping import SteppedLoop
from streamflow.testing.workers.network import Network
from streamflow.testing.workers.starting import LoopStarter, pool_on_loop
from streamflow.time.clock import SeededRandom

__all__ = ["check_key", "check_modes_agree", "is_changing", "replacing_key"]

_MODES: Final[tuple[Mode, ...]] = ("batch", "micro-batch", "streaming")
_NOT_TAKEN: Final = {
    "mode": 'give modes=["streaming", …]',
    "checkpoint_dir": "a run that continued an earlier one would have nothing to compare",
    "restore": "each run begins at the beginning",
}
Results = dict[str, list[Any]]


def check_modes_agree(
    job: Job | Callable[[], Job],
    *,
    modes: Sequence[Mode] = _MODES,
    parallelism: Sequence[int] = (1, 2, 3),
    batch_rows: Sequence[int] = (7, 1_000),
    workers: Sequence[int] = (1,),
    key: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    tolerance: float = 1e-9,
    **settings: Any,
) -> Results:
    """Runs a job in every combination and compares the final results of its outputs; returns them by the sinks' ids.

    The job reads its own sources, which have to be bounded; its sinks are replaced, so that nothing is written. Time is
    virtual and everything runs in one thread, so that a run can be repeated; several `workers` stand for as many
    processes, and what they send one another goes through the real messages and frames. `job` may be a function that
    makes it, for sources that can be read only once. Of changing results the end counts; of several panes of an
    accumulating window the last; `key` names the columns by which later rows replace earlier ones elsewhere (for all
    sinks, or by sink id). Floats may differ by `tolerance`, relatively.

    Raises AssertionError that shows the rows in which a combination differs, JobDefinitionError for an unbounded
    job. The promise is about data on time: records late in one mode and not in another make results differ. So does
    a process that sees events as they arrive, if they come out of order and their order counts: the error then
    suggests `order="event_time"`.

    >>> import streamflow as sf
    >>> job = sf.Job("totals")
    >>> rows = job.read(sf.MemorySource([{"k": "a", "v": 1}, {"k": "a", "v": 2}]))
    >>> _ = rows.key_by("k").aggregate(total=sf.sum("v")).collect()
    >>> check_modes_agree(job)
    {'write-1': [{'k': 'a', 'total': 3}]}
    """
    for name, instead in _NOT_TAKEN.items():
        if settings.get(name) is not None:
            raise JobDefinitionError(f"check_modes_agree takes no {name}", hint=instead)
    number: object = tolerance
    if not isinstance(number, int | float) or not number >= 0:
        raise JobDefinitionError(f"tolerance is {number!r}", hint="give a number, like 1e-9")
    asked: dict[str, object] = {
        "modes": modes,
        "parallelism": parallelism,
        "batch_rows": batch_rows,
        "workers": workers,
    }
    for name, several in asked.items():
        if isinstance(several, str) or not isinstance(several, Iterable):
            raise JobDefinitionError(f"{name} is {several!r}", hint=f"give a list: [{several!r}]")
    reference: Results | None = None
    first = ""
    for mode, width, rows, number in product(modes, parallelism, batch_rows, workers):
        if number > width:
            continue
        name = f"{mode}, parallelism {width}, batches of {rows}"
        name += f", {number} workers" if number > 1 else ""
        graph = _graph(job)
        check_key(graph, key)
        given = {
            "state_backend": "memory",
            **settings,
            "mode": mode,
            "parallelism": width,
            "batch_rows": rows,
        }
        results, result = _run(graph, Settings.resolve(given, environ={}), number)
        final = {
            id: final_rows(listed, replacing_key(graph, id, key), changing=is_changing(graph, id))
            for id, listed in results.items()
        }
        if reference is None:
            reference, first = final, name
            continue
        problems = list(_problems(reference, final, tolerance))
        if problems:
            late = f"\n{result.dropped} records were dropped as late" if result.dropped else ""
            raise AssertionError(
                f"{name} differs from {first}:\n" + "\n".join(problems) + late + _by_arrival(graph)
            )
    if reference is None:
        raise JobDefinitionError(
            "nothing to compare", hint="give at least one mode, parallelism and batch size"
        )
    return reference


def _by_arrival(graph: LogicalGraph) -> str:
    """The processes that see events in an order that differs in batch mode."""
    found = [
        node.id
        for node in graph.nodes
        if isinstance(node, OperatorNode)
        and isinstance(node.spec, ProcessSpec)
        and node.type.timed
        and node.spec.order == "arrival"
    ]
    if not found:
        return ""
    return (
        f"\n{', '.join(found)} sees events in the order of their arrival, and in batch mode in that of event time; if "
        'its results depend on the order, process(…, order="event_time") gives the same ones in every mode'
    )


def _graph(job: Job | Callable[[], Job]) -> LogicalGraph:
    made = job if isinstance(job, Job) else job()
    made.plan()  # the checks that a run makes
    graph = made.graph
    if not graph.bounded:
        raise JobDefinitionError(
            "modes can be compared over a finite input only", hint="bound the sources, or test with TestJob"
        )
    return graph


def _run(graph: LogicalGraph, settings: Settings, workers: int) -> tuple[Results, JobResult]:
    replaced, gathered = gathering(graph)
    clock = TestClock()
    loop = SteppedLoop(clock)

    async def whole() -> JobResult:
        def ports() -> Ports:
            return Ports(clock=clock, random=SeededRandom(0), io=Inline(), cpu=Inline())

        pool = None
        if workers > 1:
            network = Network()
            starter = LoopStarter(replaced, network, lambda _: ports())
            pool = pool_on_loop(physical_plan(replaced, settings), workers, starter, network, clock)
        profile = profile_for(settings.mode, settings, bounded=True)
        return await LocalJob(replaced, physical_plan, profile, settings, ports=ports(), pool=pool).wait()

    try:
        result = loop.run_virtually(whole())
    finally:
        loop.close_quietly()
    return {id: each.rows() for id, each in gathered.items()}, result


def check_key(graph: LogicalGraph, key: Sequence[str] | Mapping[str, Sequence[str]] | None) -> None:
    """Raises JobDefinitionError for a key of a missing sink, or with a column that the sink does not get."""
    sinks = {node.id: node for node in graph.nodes if isinstance(node, SinkNode)}
    by_sink = key if isinstance(key, Mapping) else dict.fromkeys(sinks, () if key is None else key)
    for id, given in by_sink.items():
        if id not in sinks:
            message, hint = unknown_name("sink", id, list(sinks))
            raise JobDefinitionError(f"key: {message}", hint=hint)
        if isinstance(given, str):
            raise JobDefinitionError(
                f"key: {given!r} is one text", hint=f"give a list of columns: [{given!r}]"
            )
        schema = sinks[id].type.schema
        for name in names(given, "key"):
            if isinstance(schema, Schema) and name not in schema:
                message, hint = unknown_name("column", name, list(schema))
                raise JobDefinitionError(f"key of {id}: {message}", hint=hint)


def is_changing(graph: LogicalGraph, sink: str) -> bool:
    """Whether a sink gets changes, by its stream's type."""
    node = graph.node(sink)
    assert isinstance(node, SinkNode)
    return bool(node.type.changes)


def replacing_key(
    graph: LogicalGraph, sink: str, key: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> Sequence[str] | None:
    """The columns by which later rows of a sink replace earlier ones: the user's, else those of an accumulating
    window."""
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
    return [*spec.shown_keys, *(name for name in WINDOW_COLUMNS if name in schema)]  # type: ignore[operator]


def _problems(reference: Results, final: Results, tolerance: float) -> Iterator[str]:
    for id, rows in reference.items():
        text = difference(rows, final[id], tolerance=tolerance)
        if text:
            yield f"  {id}: " + text.replace("\n", "\n    ")
