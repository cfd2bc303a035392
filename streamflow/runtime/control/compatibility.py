"""The check that a checkpoint fits the job that continues from it. Decides, does no I/O.

Operators are matched by their stable ids. State that fits nowhere any more, or that the operator of its id cannot
take, is refused with one message that names all of it; an operator that has no state yet starts empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamflow.errors import StateError
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.operators.contract.source import Source
from streamflow.state.checkpoints.manifest import Manifest

__all__ = ["Fit", "fit", "laid_out_as"]


@dataclass(frozen=True, slots=True)
class Fit:
    """The mismatches: ids in the checkpoint only, ids in the job only, and reasons (id, sentence) why state of an id
    in both cannot be taken."""

    dropped: Sequence[str]
    new: Sequence[str]
    unfit: Sequence[tuple[str, str]]

    def check(self, manifest: Manifest, *, allow_dropped: bool) -> None:
        """Raises StateError if the job must not continue from this checkpoint."""
        problems = [f"operator {id}: {reason}" for id, reason in self.unfit]
        if self.dropped and not allow_dropped:
            problems += [
                f"operator {id} has state there and is not in the job any more" for id in self.dropped
            ]
        if not problems:
            return
        new = f" (in the job only: {', '.join(self.new)})" if self.new and self.dropped else ""
        hint = 'give the operators the ids they had: .named("id")'
        if self.dropped and not self.unfit:
            hint += ", or leave their state behind with allow_dropped_state"
        elif self.dropped or self.new:
            hint += ', or start again with restore="none"'
        else:
            hint = f'undo the change, or {hint}, or start again with restore="none"'
        raise StateError(
            f"checkpoint {manifest.number} does not fit the job: " + "; ".join(problems) + new, hint=hint
        )


def fit(manifest: Manifest, plan: PhysicalPlan) -> Fit:
    """Compares a checkpoint with a plan, by id."""
    sources = {task.source.id: task.source.source for task in plan.tasks if task.source is not None}
    operators = {operator.id: operator for task in plan.tasks for operator in task.chain}
    stateful = {id for id, each in operators.items() if each.spec.state_signature(each.inputs) is not None}
    saved = {entry.id: entry for entry in manifest.operators}
    unfit: list[tuple[str, str]] = []
    if manifest.max_parallelism != plan.max_parallelism:
        was, is_ = manifest.max_parallelism, plan.max_parallelism
        unfit.append(
            ("of any kind", f"max_parallelism was {was} and is {is_}; it is fixed for the life of the state")
        )
    for id, entry in saved.items():
        if entry.kind == "read":
            if id in operators:
                unfit.append((id, "was a source"))
            elif id in sources and entry.signature is not None:
                problems = _other_input(entry.signature, sources[id])
                fitting = [other for other in sources if not _other_input(entry.signature, sources[other])]
                now = f" ({', '.join(fitting)} reads that now)" if fitting else ""
                unfit += [(id, why + now) for why in problems]
        elif id in operators:
            operator = operators[id]
            if entry.kind != operator.spec.kind:
                unfit.append((id, f"was of kind {entry.kind} and is of kind {operator.spec.kind}"))
            elif entry.signature is not None:
                unfit += [(id, why) for why in operator.spec.check_state(entry.signature, operator.inputs)]
    dropped = [
        id
        for id, entry in saved.items()
        if (id not in sources if entry.kind == "read" else id not in operators)
        and any(subtask.files for subtask in entry.subtasks)
    ]
    new = sorted((stateful | sources.keys()) - saved.keys())
    return Fit(dropped, new, unfit)


def _other_input(saved: Mapping[str, Any], source: Source) -> list[str]:
    """Reasons why a source's positions mean nothing to this source."""
    kind, mine = saved.get("source"), type(source).__name__
    if kind != mine:
        return [f"was a {kind} and is a {mine}"]
    return source.differences(saved.get("input", {}))


def laid_out_as(graph: LogicalGraph, manifest: Manifest) -> LogicalGraph:
    """The graph of the job with its state in the checkpoint's order."""
    return graph.laid_out_as(
        {entry.id: entry.signature for entry in manifest.operators if entry.signature is not None}
    )
