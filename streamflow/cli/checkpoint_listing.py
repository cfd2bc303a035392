"""Checkpoints as rows of a list: each one's kind, size, and newly stored part."""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.cli.terminal import figures
from streamflow.errors import StateError
from streamflow.state.checkpoints.manifest import Manifest
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.time.timestamps import format_time

__all__ = ["COLUMNS", "RIGHT", "Row", "cells", "listed"]

COLUMNS = (
    "job",
    "number",
    "kind",
    "created",
    "age",
    "new",
    "total",
    "operators",
    "generation",
    "mode",
    "notes",
)
RIGHT = ("number", "age", "new", "total", "operators", "generation")


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint. Sizes in bytes; `new_bytes` is None if the checkpoint before it is gone; `problem` alone is
    set if the manifest cannot be read."""

    job: str
    number: int
    kind: str | None = None
    created: str | None = None
    created_us: int | None = None
    new_bytes: int | None = None
    total_bytes: int | None = None
    operators: int | None = None
    parent: int | None = None
    generation: int | None = None
    mode: str | None = None
    finished: bool | None = None
    problem: str | None = None


def listed(store: CheckpointStore) -> list[Row]:
    """One job's checkpoints, newest first."""
    manifests: dict[int, Manifest | StateError] = {}
    for number in store.numbers():
        try:
            manifests[number] = store.manifest(number)
        except StateError as error:
            if number in store.numbers():  # or a running job has removed it meanwhile
                manifests[number] = error
    rows: list[Row] = []
    for number in sorted(manifests, reverse=True):
        manifest = manifests[number]
        if isinstance(manifest, Manifest):
            parent = None if manifest.parent is None else manifests.get(manifest.parent)
            rows.append(_row(manifest, parent if isinstance(parent, Manifest) else None))
        else:
            rows.append(Row(store.job, number, problem=manifest.message))
    return rows


def cells(row: Row, now: int) -> list[str]:
    """The texts under `COLUMNS`; `now` in microseconds since 1970."""
    if row.problem is not None:
        return [row.job, str(row.number), *[""] * (len(COLUMNS) - 3), row.problem]
    created, new, total = row.created_us or 0, row.new_bytes, row.total_bytes
    return [
        row.job,
        str(row.number),
        row.kind or "",
        (row.created or "").partition(".")[0].removesuffix("Z").replace("T", " "),
        figures.span((now - created) / 1e6),
        "–" if new is None else figures.size(new),
        figures.size(total or 0),
        str(row.operators),
        str(row.generation),
        row.mode or "",
        "the job has ended" if row.finished else "",
    ]


def _row(manifest: Manifest, parent: Manifest | None) -> Row:
    stored = _contents(manifest)
    new: int | None = None
    if parent is not None:
        before = _contents(parent)
        new = sum(size for content, size in stored.items() if content not in before)
    elif manifest.generation == manifest.number:
        new = sum(stored.values())
    return Row(
        job=manifest.job,
        number=manifest.number,
        kind=manifest.kind,
        created=format_time(manifest.created),
        created_us=manifest.created,
        new_bytes=new,
        total_bytes=sum(stored.values()),
        operators=len(manifest.operators),
        parent=manifest.parent,
        generation=manifest.generation,
        mode=manifest.mode,
        finished=manifest.finished,
    )


def _contents(manifest: Manifest) -> dict[tuple[int, str], int]:
    """Sizes by content: bytes that two files share are stored once."""
    return {(file.generation, file.digest): file.size for _, file in manifest.all_files()}
