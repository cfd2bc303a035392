"""A deployment: one attempt at running a job, as its coordinator and each of its workers know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamflow.config import Settings
from streamflow.graph.logical import SinkNode
from streamflow.graph.physical import PhysicalPlan, PhysicalTask
from streamflow.observe.registry import MetricsRegistry
from streamflow.operators.contract.sink import SinkContext
from streamflow.operators.contract.source import Instance, SourceContext
from streamflow.runtime.checkpoints.restoring import Restored
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.runtime.site import Site
from streamflow.state.backends.state_memory import StateMemory

__all__ = ["Deployment", "keepers"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One attempt. `run` is a name that no other attempt of the job has had, `first_epoch` the first epoch that the
    attempt will end, `checkpointed` whether it takes checkpoints.

    `state_dir` is a folder of this attempt alone, removed at its end; None: backends are in private temporary
    directories, or in memory. `restored` is the checkpoint from which the attempt goes on, if any.
    """

    plan: PhysicalPlan
    profile: ExecutionProfile
    settings: Settings
    ports: Ports
    registry: MetricsRegistry
    run: str
    memory: StateMemory
    """The memory for the state of all subtasks in this process."""
    state_dir: Path | None
    restored: Restored | None
    first_epoch: int
    checkpointed: bool
    apart: bool = False
    """Whether subtasks are in other processes than the coordinator."""
    site: Site | None = None
    """The place of this process among several workers; None: every subtask runs here."""
    shared: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """The dicts shared in this process by the enumerator and the readers of a source, or by the subtasks of an
    operator, by id."""

    @property
    def epoch(self) -> int:
        """The epoch of the checkpoint from which the attempt goes on; 0 without one."""
        return 0 if self.restored is None else self.restored.epoch

    def subtasks(self, task: PhysicalTask) -> Sequence[int]:
        """The numbers of a task's subtasks that run here."""
        return range(task.parallelism) if self.site is None else self.site.subtasks(task)

    @property
    def instance(self) -> Instance:
        """The number of this copy of the program among its copies."""
        return Instance.given(self.settings.instance)

    def shared_by(self, id: str) -> dict[str, Any]:
        """The dict that the parts of one operator or source share in this process."""
        return self.shared.setdefault(id, {})

    def source_context(self, task: PhysicalTask) -> SourceContext:
        """The context of a task's enumerator and readers."""
        source = task.source
        assert source is not None
        return SourceContext(
            operator_id=source.id,
            clock=self.ports.clock,
            random=self.ports.random,
            run_blocking=self.ports.decoding.droppable,
            batch_rows=self.profile.batch_rows,
            on_error=source.on_error,
            columns=task.columns,
            stamped=source.timestamps is not None,
            job=self.instance.of(self.plan.job),
            instance=self.instance,
            metrics=self.registry.operator(source.id, 0),
            shared=self.shared_by(source.id),
        )

    def sink_context(self, node: SinkNode, task: PhysicalTask, subtask: int) -> SinkContext:
        """The context of a sink's committer, and of the writer of one subtask of the task that holds the sink. The
        writer needs the runtime's answers beside it."""
        restored = self.restored
        return SinkContext(
            operator_id=node.id,
            subtask=subtask,
            parallelism=task.parallelism,
            clock=self.ports.clock,
            random=self.ports.random,
            run_blocking=self.ports.output,
            disk=self.ports.disk,
            job=self.instance.of(self.plan.job),
            restored=None if restored is None else restored.epoch,
            from_savepoint=restored is not None and restored.manifest.kind == "savepoint",
            checkpointed=self.checkpointed,
            allow_duplicates=self.settings.allow_duplicates,
            from_start=self.settings.restore == "none",
            reach=self.ports.reach,
            line=self.run if restored is None else restored.line,
            first_epoch=self.first_epoch,
            restored_parent=None if restored is None else restored.manifest.parent,
            noted=None if restored is None else restored.notes.get(node.id),
            type=node.type,
            metrics=self.registry.operator(node.id, subtask),
            apart=self.apart,
        )


def keepers(plan: PhysicalPlan, site: Site | None = None) -> int:
    """The number of subtasks that keep state, of all (None) or of those at a site."""
    count = 0
    for task in plan.tasks:
        stateful = sum(each.spec.state_signature(each.inputs) is not None for each in task.chain)
        count += stateful * len(range(task.parallelism) if site is None else site.subtasks(task))
    return count
