"""The physical plan of a job's graph under resolved settings."""

from __future__ import annotations

from streamflow.config import Settings
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.operators.stateless.rows import convert
from streamflow.planning.plan import plan as make_plan

__all__ = ["physical_plan"]


def physical_plan(graph: LogicalGraph, settings: Settings) -> PhysicalPlan:
    """The tasks, exchanges and parallelism that a graph runs with under these settings."""
    widths = {"parallelism": settings.parallelism, "max_parallelism": settings.max_parallelism}
    return make_plan(graph, **widths, convert=convert)
