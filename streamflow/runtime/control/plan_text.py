"""The text of a plan by which a worker and its coordinator tell whether they have the same job."""

from __future__ import annotations

import re
from typing import Final

from streamflow.errors import ConfigError
from streamflow.graph.physical import PhysicalPlan

__all__ = ["check_same", "plan_text"]

_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")


def plan_text(plan: PhysicalPlan) -> str:
    """A line for each operator, edge and sink: its name, kind, width, the form of its state, and its description.

    >>> from streamflow.graph.physical import PhysicalTask
    >>> plan_text(PhysicalPlan("job", (PhysicalTask("task-1", 2, ()),), ()))
    'job 128'
    """
    lines = [f"{plan.job} {plan.max_parallelism}"]
    for task in plan.tasks:
        if task.source is not None:
            source = task.source.source
            kind = f"{type(source).__name__} x {task.parallelism}"
            lines.append(f"{task.source.id} read {kind} {_line(source.describe())}")
        for operator in task.chain:
            signature = operator.spec.state_signature(operator.inputs)
            kind = f"{operator.spec.kind} x {task.parallelism}"
            lines.append(
                f"{operator.id} {kind} {signature} {operator.output.schema} {_line(operator.spec.describe())}"
            )
        for sink in task.sinks:
            kind = f"{type(sink.sink).__name__} x {task.parallelism}"
            lines.append(f"{sink.id} write {kind} {_line(sink.sink.describe())}")
    lines += [f"{edge.reads.node} to {edge.lower} {edge.exchange.value} {edge.keys}" for edge in plan.edges]
    return "\n".join(lines)


def _line(described: str) -> str:
    """A description on one line, without the addresses of objects."""
    return _ADDRESS.sub("", " ".join(described.split()))


def check_same(mine: str, coordinator: str) -> None:
    """Raises ConfigError, naming the first operator that differs, if a worker's plan is another than the
    coordinator's."""
    if mine == coordinator:
        return
    here, there = mine.split("\n"), coordinator.split("\n")
    differing = next((pair for pair in zip(here, there, strict=False) if pair[0] != pair[1]), None)
    names = f"{len(here)} parts here, {len(there)} there" if differing is None else differing[1].split(" ")[0]
    raise ConfigError(
        f"the job is another one in a worker than where it was started: {names}",
        hint="a job file must build the same job each time it is imported: not by the time, by chance, or by "
        "what another program has set beforehand",
    )
