"""Starting a job with state that comes from elsewhere: DataFrames become a checkpoint that the job continues from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from streamflow.api.physical import physical_plan
from streamflow.config import Settings
from streamflow.errors import ConfigError, JobDefinitionError, RecordError, Where, unknown_name
from streamflow.operators.contract.source import Instance
from streamflow.operators.process.process import ProcessSpec

if TYPE_CHECKING:
    from streamflow.api.job import Job
    from streamflow.graph.physical import PhysicalOperator, PhysicalPlan
    from streamflow.savepoints.filling import StateFilling
    from streamflow.state.checkpoints.manifest import OperatorEntry
    from streamflow.state.checkpoints.writer import CheckpointWriter

__all__ = ["bootstrap"]

Frames = Mapping[str, pl.DataFrame]


def bootstrap(job: Job, states: Mapping[str, Frames], *, to: str | os.PathLike[str], **settings: Any) -> str:
    """Writes a checkpoint of `job` whose keyed state comes from DataFrames; returns "DIRECTORY#NUMBER".

    `states` has, by operator id and by the name of a state that its `KeyedProcess` declares, a frame with the key
    columns and the value: a record's fields, or the column `value`. A MapState's frame has `map_key` as well, a
    ListState's rows are taken in order; a state with a time to live has `since`, the time from which its age counts.
    `event-timers` and `processing-timers` take frames with the column `time`. These are the frames that
    `read_checkpoint` gives.

    The job, run with checkpoint_dir=`to`, then starts with that state, its sources at their beginning. Settings:
    `max_parallelism`, `state_backend`, `checkpoint_key`, as the job will have them. Raises JobDefinitionError and
    RecordError for frames that do not fit the job, ConfigError if `to` has checkpoints of the job already.
    """
    from streamflow.core.serde import pack
    from streamflow.runtime.checkpoints.snapshots import JOB
    from streamflow.runtime.launching import open_store
    from streamflow.runtime.ports import Inline, Ports
    from streamflow.state.checkpoints.manifest import Manifest

    resolved = Settings.resolve(settings)
    plan = physical_plan(job.graph, resolved)
    chosen = [_process(plan, operator) for operator in states]
    ports = Ports(io=Inline(), cpu=Inline())
    place = os.fspath(to)
    name, line = Instance.given(resolved.instance).of(job.name), f"bootstrap-{ports.random.token()}"
    with open_store(place, name, resolved, ports) as store:
        store.claim()
        if store.numbers():
            raise ConfigError(
                f"{place} has checkpoints of {name} already", hint="give a directory that is new"
            )
        writer = store.session(store.next_number())
        try:
            entries = [_written(writer, operator, states[operator.id], resolved) for operator in chosen]
            whole = writer.put([pack({"sources": {}, "sealed": [], "line": line})], JOB)
            writer.publish(
                Manifest(
                    number=writer.number,
                    mode="bootstrap",
                    max_parallelism=plan.max_parallelism,
                    operators=tuple(entries),
                    files=(whole,),
                )
            )
        finally:
            writer.abandon()
    return f"{place}#{writer.number}"


def _process(plan: PhysicalPlan, id: str) -> PhysicalOperator:
    """The operator with this id, which has to be a process."""
    operators = [operator for task in plan.tasks for operator in task.chain]
    known = {operator.id: operator for operator in operators if isinstance(operator.spec, ProcessSpec)}
    if id not in known:
        message, hint = unknown_name("operator with a KeyedProcess", id, known)
        raise JobDefinitionError(message, hint=hint)
    return known[id]


def _written(
    writer: CheckpointWriter, operator: PhysicalOperator, frames: Frames, settings: Settings
) -> OperatorEntry:
    """The stored state of one operator, all key groups in one subtask."""
    from streamflow.operators.contract.operator import OperatorSnapshot
    from streamflow.runtime.checkpoints.snapshots import OperatorShare
    from streamflow.savepoints.filling import StateFilling as Filling
    from streamflow.state.backends.factory import open_backend
    from streamflow.state.checkpoints.manifest import OperatorEntry
    from streamflow.time.timestamps import MIN_TIME

    spec = operator.spec
    assert isinstance(spec, ProcessSpec)
    groups = range(settings.max_parallelism)
    with TemporaryDirectory(prefix="streamflow-") as folder:
        backend = open_backend(settings.state_backend, Path(folder, "live"))
        try:
            filling = Filling(operator.id, spec, operator.inputs, backend, len(groups))
            broadcast = _placed(operator.id, filling, frames)
            backend.flush()
            snapshot = OperatorSnapshot({"watermark": MIN_TIME, "broadcast": broadcast})
            saved = backend.save(Path(folder, "saved"))
            share = OperatorShare(operator.id, groups, snapshot, saved)
            subtask = share.store(writer, 0)
            if saved is not None:
                saved.release()
        finally:
            backend.close()
    signature = dict(spec.state_signature(operator.inputs))
    return OperatorEntry(operator.id, spec.kind, 1, signature, (subtask,))


def _placed(id: str, filling: StateFilling, frames: Frames) -> dict[str, bytes]:
    """The result of `filling.fill`; errors name the operator."""
    try:
        return filling.fill(frames)
    except (JobDefinitionError, RecordError) as error:
        raise error.at(Where(operator=id)) from error.__cause__
