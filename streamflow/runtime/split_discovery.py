"""Split discovery: the coordinator's side of one source. Finds splits, hands them out, and keeps those that wait."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamflow.errors import StateError, Where
from streamflow.graph.logical import SourceNode
from streamflow.graph.physical import PhysicalTask
from streamflow.observe.logs import told
from streamflow.operators.contract.source import Enumerator, SplitKeeper, SplitListener
from streamflow.runtime.blame import blamed
from streamflow.runtime.control.assignment import SplitAssigner
from streamflow.runtime.control.split_grants import SplitGrants
from streamflow.runtime.deployment import Deployment

__all__ = ["SplitDiscovery"]

_LOG: Final = logging.getLogger("streamflow.runtime")
_SIDE_BY_SIDE: Final = 16


@dataclass(frozen=True, slots=True)
class SplitDiscovery:
    """The enumerator of one source, and the machines that decide who reads what it finds."""

    source: str
    enumerator: Enumerator
    assigner: SplitAssigner
    grants: SplitGrants

    @classmethod
    def of(cls, deployment: Deployment, task: PhysicalTask) -> SplitDiscovery:
        """The discovery for the source of a task, with the source's part of a checkpoint, if the attempt continues
        from one. Raises StateError if the source does not understand that part."""
        source = task.source
        assert source is not None
        enumerator = source.source.enumerator(deployment.source_context(task))
        start = None if deployment.restored is None else deployment.restored.sources.get(source.id)
        if start is not None and start.enumerator is not None:
            _restore(source, enumerator, start.enumerator)
        restored = None if start is None else start.splits
        final = start is not None and start.final
        if restored is not None and isinstance(enumerator, SplitKeeper):
            restored = [state for state in restored if enumerator.keeps(state.split)]
            final = final and enumerator.complete
        assigner = SplitAssigner(
            task.parallelism,
            side_by_side=_SIDE_BY_SIDE if deployment.profile.by_watermark else 1,
            restored=restored,
            final=final,
            unread=enumerator.unread if isinstance(enumerator, SplitListener) else None,
        )
        grants = SplitGrants(source.id, assigner)
        return cls(source.id, enumerator, assigner, grants)

    async def look(self) -> None:
        """Takes in what the enumerator finds next; waits until there is news."""
        with blamed(self.source):
            discovery = await self.enumerator.discover()
        self.assigner.found(discovery)
        if discovery.splits:
            _LOG.info("splits found", extra=told(source=self.source, splits=len(discovery.splits)))

    @property
    def waiting(self) -> Mapping[str, Any]:
        """The coordinator's part of a checkpoint: everything of the source that no subtask has."""
        return {
            "splits": [state.as_values() for state in self.assigner.pending],
            "final": self.assigner.final,
            "enumerator": dict(self.enumerator.snapshot()),
        }


def _restore(node: SourceNode, enumerator: Enumerator, state: Mapping[str, Any]) -> None:
    """Restores an enumerator. Checkpoints of earlier versions do not name the kind of source: this one may not
    understand them."""
    try:
        enumerator.restore(state)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateError(
            f"{node.source.describe()} cannot continue from the checkpoint: it has another kind of source",
            where=Where(operator=node.id),
            hint='give the sources the ids they had: .named("id"), or start again with restore="none"',
        ) from error
