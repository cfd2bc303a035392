"""The planner: from the logical graph to the physical plan in five steps, each a function of immutable data.

1. combine: a partial aggregate goes before every keyed aggregate that allows it. 2. fuse: Python functions that
follow one another become one operator. 3. convert: a visible `Convert` goes between two operators whose layouts
differ. 4. exchange and chain: an edge is forward, hash, rebalance or broadcast; forward edges with one reader are
chained. 5. read ahead: the pure operators behind a source move into its read-ahead; columns that nothing needs are
not read.
"""

from __future__ import annotations

from streamflow.errors import JobDefinitionError
from streamflow.graph.logical import LogicalGraph, SinkNode
from streamflow.graph.physical import PhysicalPlan
from streamflow.planning.chain import chained
from streamflow.planning.combine import combined
from streamflow.planning.convert import ConvertFactory, converted
from streamflow.planning.fuse import fused

__all__ = ["plan"]


def plan(
    graph: LogicalGraph, *, parallelism: int, max_parallelism: int, convert: ConvertFactory
) -> PhysicalPlan:
    """The physical plan of a job at a parallelism.

    Raises JobDefinitionError if a node asks for more subtasks than there are key groups.
    """
    for width in [
        parallelism,
        *(node.parallelism or 1 for node in graph.nodes if not isinstance(node, SinkNode)),
    ]:
        if not 1 <= width <= max_parallelism:
            raise JobDefinitionError(
                f"parallelism {width} is not between 1 and {max_parallelism}",
                hint="max_parallelism bounds it",
            )
    return chained(converted(fused(combined(graph)), convert), parallelism, max_parallelism)
