"""One checkpoint in full: its operators, key groups and files, the positions of its sources, the sealed output of
its sinks."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streamflow.cli.terminal import figures
from streamflow.cli.terminal.figures import text_table
from streamflow.errors import cut
from streamflow.runtime.checkpoints.sealed_files import job_of, sealed_of
from streamflow.runtime.checkpoints.stored_content import SourceContent, content_of
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.time.timestamps import format_time

__all__ = ["Details"]

_SOURCE_FILE: Final = "source.msgpack"
_SHOWN: Final = 160


@dataclass(frozen=True)
class Details:
    """A manifest, and the small files beside it with the positions of the job."""

    manifest: Manifest
    job: Mapping[str, Any]
    positions: Mapping[str, list[Any]]
    """By source: the notes of each subtask."""

    @classmethod
    def of(cls, store: CheckpointStore, manifest: Manifest) -> Details:
        """The details of a checkpoint. Raises StateError if its files are damaged."""
        job = job_of(store, manifest)
        whole = {**job, "sealed": sealed_of(store, manifest, job, whole=False)}
        positions: dict[str, list[Any]] = {}
        for operator in manifest.operators:
            for subtask in operator.subtasks:
                for file in subtask.files:
                    if file.name == _SOURCE_FILE:
                        state = content_of(store.read(file), SourceContent, file.name)
                        positions.setdefault(operator.id, []).append(state)
        return cls(manifest, whole, positions)

    def json(self) -> str:
        """All details as JSON."""
        content = {
            "manifest": msgspec.to_builtins(self.manifest),
            "sources": _sources(self),
            "sealed": self.job.get("sealed", []),
        }
        return json.dumps(content, default=_plain)

    def text(self) -> str:
        """All details as text for people."""
        manifest = self.manifest
        parts = [_heading(manifest), _operators(manifest)]
        if sources := _sources(self):
            lines = [f"  {name}: {_shown(positions)}" for name, positions in sources.items()]
            parts.append("\n".join(["sources stood at", *lines]))
        if sealed := self.job.get("sealed"):
            lines = [f"  {sink}: {_shown(committable)}" for sink, committable in sealed]
            parts.append("\n".join(["sealed output, made visible with this checkpoint", *lines]))
        parts.append(_files(manifest))
        return "\n\n".join(parts)


def _heading(manifest: Manifest) -> str:
    signature = f"format {manifest.format}, written by streamflow {manifest.streamflow}"
    of = "the first of its run" if manifest.parent is None else f"after {manifest.parent}"
    facts = [
        f"{manifest.kind} {manifest.number} of {manifest.job}",
        f"created {format_time(manifest.created)}, {of}, generation {manifest.generation}, run {manifest.incarnation}",
        f"{manifest.mode or 'no'} mode, {manifest.max_parallelism} key groups, {figures.size(manifest.size)}",
        signature,
    ]
    if manifest.finished:
        facts.append("the job has ended: nothing follows")
    return "\n".join(facts)


def _operators(manifest: Manifest) -> str:
    rows = [
        [
            operator.id,
            operator.kind,
            f"{subtask.subtask + 1}/{operator.parallelism}",
            f"{subtask.first_group}–{subtask.last_group}",
            subtask.backend or "–",
            str(len(subtask.files)),
            figures.size(sum(file.size for file in subtask.files)),
        ]
        for operator in manifest.operators
        for subtask in operator.subtasks
    ]
    header = ["operator", "kind", "subtask", "key groups", "backend", "files", "size"]
    table = text_table(header, rows, right=["subtask", "files", "size"])
    signed = [f"  {each.id}: {_signature(each)}" for each in manifest.operators if each.signature]
    return "\n".join([table, "", "state that a job must still have", *signed] if signed else [table])


def _signature(operator: OperatorEntry) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in (operator.signature or {}).items())


def _files(manifest: Manifest) -> str:
    rows = [
        [path, figures.size(file.size), str(file.generation), file.digest[:16]]
        for path, file in manifest.all_files()
    ]
    return text_table(["file", "size", "generation", "digest"], rows, right=["size", "generation"])


def _sources(details: Details) -> dict[str, Any]:
    """By source: the notes of the job as a whole, and those of its subtasks."""
    whole: Mapping[str, Any] = details.job.get("sources", {})
    return {
        name: {"splits": whole.get(name), "subtasks": details.positions.get(name, [])}
        for name in sorted({*whole, *details.positions})
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else cut(json.dumps(value, default=_plain), _SHOWN)


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
