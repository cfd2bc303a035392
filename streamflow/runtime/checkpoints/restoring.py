"""Going on from a checkpoint: every subtask gets its share, whatever the parallelism was when it was taken.

Everything that is read has been verified by its digest. Blocking: runs on the threads for state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from streamflow.core.keys import key_group_range
from streamflow.errors import DamagedError
from streamflow.graph.physical import PhysicalPlan, PhysicalTask
from streamflow.operators.contract.operator import StatePart
from streamflow.operators.contract.sink import Committable
from streamflow.runtime.checkpoints.sealed_files import SEALED, job_of, sealed_of
from streamflow.runtime.checkpoints.snapshots import BACKEND, SOURCE, TABLE, VALUES, described
from streamflow.runtime.checkpoints.stored_content import ELSEWHERE, SourceContent, WaitingContent, content_of
from streamflow.runtime.control.assignment import SplitState
from streamflow.state.backends.factory import open_saved
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.backends.saved import SavedKind
from streamflow.state.backends.state_memory import StateMemory
from streamflow.state.checkpoints.content import Content
from streamflow.state.checkpoints.manifest import Manifest, StoredFile, SubtaskEntry
from streamflow.state.checkpoints.tables import decode_table
from streamflow.state.operator_snapshot import Table
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["Mine", "Restored", "Share", "SourceStart", "needed_files"]


Mine = Collection[tuple[str, int]]
"""The subtasks of one process, each by its task and number."""

_SMALL: Final = 4
"""A file of small rows is several times as large as what they hold."""


@dataclass(frozen=True, slots=True)
class SourceStart:
    """The restart of a source: splits not read to their end, the enumerator's state, whether all splits are known,
    and the watermark that its subtasks had in common."""

    splits: Sequence[SplitState]
    enumerator: Mapping[str, Any] | None
    final: bool
    watermark: int


@dataclass(slots=True)
class Share:
    """The share that one subtask of one operator is restored from; `adopted` is its own backend, opened with its
    content."""

    parts: list[StatePart]
    adopted: KeyedStateBackend | None = None


@dataclass(slots=True)
class Restored:
    """A checkpoint being restored; `load` reads its content, `close` gives up what only reading it took.

    `work` is where backends are opened: for `kind` "rocksdb" a folder that is this run's. They share `memory`.
    """

    content: Content
    kind: SavedKind
    work: Path | None
    memory: StateMemory
    sealed: list[tuple[str, Committable]] = field(default_factory=list["tuple[str, Committable]"])
    """The output that the epoch had sealed, by sink."""
    sinks: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """The facts about the sinks that sealed output, if the checkpoint has them."""
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, "Mapping[str, Any]"])
    """The notes of the committers, by sink."""
    line: str = ""
    """The line of runs that the checkpoint belongs to."""
    sources: dict[str, SourceStart] = field(default_factory=dict[str, SourceStart])
    """The restarts of the sources, by id."""
    shares: dict[tuple[str, int], Share] = field(default_factory=dict["tuple[str, int]", Share])
    """Shares by operator and subtask of the run that begins."""
    event_times: dict[str, int] = field(default_factory=dict[str, int])
    """The event time of each operator that keeps it."""
    _old: dict[tuple[str, int], KeyedStateBackend] = field(
        default_factory=dict["tuple[str, int]", KeyedStateBackend]
    )
    _values: dict[tuple[str, int], bytes] = field(default_factory=dict["tuple[str, int]", bytes])
    _tables: dict[tuple[str, int], Mapping[str, Table]] = field(
        default_factory=dict["tuple[str, int]", Mapping[str, Table]]
    )
    """The tables of old subtasks: several new ones may each need a share."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the checkpoint."""
        return self.content.manifest

    @property
    def epoch(self) -> int:
        """The epoch of the checkpoint."""
        return self.manifest.number

    def load(self, plan: PhysicalPlan, mine: Mine | None = None, *, sealed: bool = True) -> None:
        """Reads everything that the plan's subtasks need, and opens the state of `mine` (None: all of them); blocks.
        Sources and event times are those of the whole job; without `sealed` its sealed output is left out. Raises
        StateError if that fails."""
        job = job_of(self.content, self.manifest)
        self.sealed = sealed_of(self.content, self.manifest, job) if sealed else []
        self.sinks = job.get("sinks", {})
        self.notes = job.get("notes", {})
        self.line = job["line"]
        for task in plan.tasks:
            if task.source is not None:
                start = self._source(task.source.id, job["sources"].get(task.source.id))
                if start is not None:
                    self.sources[task.source.id] = start
            for index in _mine_of(task, mine):
                groups = key_group_range(index, task.parallelism, plan.max_parallelism)
                for operator in task.chain:
                    share = self._share(operator.id, index, groups)
                    if share.parts:
                        self.shares[operator.id, index] = share
            for operator in task.chain:
                self._note_event_time(operator.id)
        self._values.clear()
        self._tables.clear()

    def close(self) -> None:
        """Closes the old backends, and those that no subtask has taken over."""
        for backend in self._old.values():
            backend.close()
        self._old.clear()
        for share in self.shares.values():
            if share.adopted is not None:
                share.adopted.close()
        self.shares.clear()
        self.content.close()

    def take(self, id: str, subtask: int) -> Share | None:
        """The share of a subtask; its backend belongs to the caller from now on."""
        return self.shares.pop((id, subtask), None)

    def _note_event_time(self, id: str) -> None:
        kept = [self._values_of(id, subtask) for subtask in self._subtasks(id)]
        parts = [StatePart(range(0), values, {}) for values, _ in kept]
        times = [part.number("watermark") for part in parts if "watermark" in part.values]
        # After the input's end nothing comes, and that it has ended is to be heard again.
        for time in times:
            if time < MAX_TIME:
                self.event_times[id] = min(time, self.event_times.get(id, time))

    def _source(self, id: str, waiting: WaitingContent | None) -> SourceStart | None:
        if self.manifest.finished:
            return SourceStart((), None, True, MIN_TIME)
        if waiting is None:
            return None
        splits = {state["id"]: SplitState.of(state) for state in waiting["splits"]}
        reading: list[int] = []
        done: list[int] = []
        for subtask in self._subtasks(id):
            state = content_of(self.content.read(_file(subtask, SOURCE)), SourceContent, SOURCE)
            splits |= {each["id"]: SplitState.of(each) for each in state["splits"]}
            (reading if state["splits"] else done).append(state["watermark"])
        watermark = min(reading) if reading else max(done, default=MIN_TIME)
        return SourceStart(tuple(splits.values()), waiting["enumerator"], waiting["final"], watermark)

    def _share(self, id: str, index: int, groups: range) -> Share:
        share = Share([])
        meeting = _meeting(self._subtasks(id), groups)
        for subtask in meeting:
            theirs = range(subtask.first_group, subtask.last_group + 1)
            same = theirs == groups and len(meeting) == 1 and self._adoptable(subtask)
            values, tables = self._kept(id, subtask)
            backend: KeyedStateBackend | None = None
            if subtask.backend is not None and same:
                share.adopted = self._open(subtask, self._directory(f"{id}-{index}"))
            elif subtask.backend is not None:
                backend = self._old_backend(id, subtask)
            share.parts.append(
                StatePart(
                    groups=theirs,
                    values=values,
                    tables=tables,
                    backend=backend,
                    adopted=same,
                )
            )
        return share

    def _kept(self, id: str, subtask: SubtaskEntry) -> tuple[Mapping[str, Any], Mapping[str, Table]]:
        """The values and tables that an old subtask had."""
        key = (id, subtask.subtask)
        values, names = self._values_of(id, subtask)
        if key not in self._tables:
            files = {name: _file(subtask, TABLE + name) for name in names}
            self._tables[key] = {
                name: decode_table(
                    self.content.read(file), lambda frame: self.content.read(_file(subtask, frame))
                )
                for name, file in files.items()
            }
        return values, self._tables[key]

    def _values_of(self, id: str, subtask: SubtaskEntry) -> tuple[Mapping[str, Any], Sequence[str]]:
        """The values that an old subtask had, and the names of its tables."""
        key = (id, subtask.subtask)
        if key not in self._values:
            self._values[key] = self.content.read(_file(subtask, VALUES))
        values, _, names = described(self._values[key])
        return values, names

    def _adoptable(self, subtask: SubtaskEntry) -> bool:
        """Whether a subtask can go on with the backend as it is: state that is small is in memory for every kind."""
        nbytes = sum(file.size for file in subtask.files if file.name.startswith(BACKEND))
        small = subtask.backend == "memory" and nbytes <= _SMALL * self.memory.small
        return small or subtask.backend in (None, self.kind)

    def _old_backend(self, id: str, subtask: SubtaskEntry) -> KeyedStateBackend:
        key = (id, subtask.subtask)
        if key not in self._old:
            self._old[key] = self._open(subtask, self._directory(f"old-{id}-{subtask.subtask}"))
        return self._old[key]

    def _directory(self, name: str) -> Path | None:
        return None if self.work is None else self.work / name

    def _open(self, subtask: SubtaskEntry, directory: Path | None) -> KeyedStateBackend:
        files = {
            file.name.removeprefix(BACKEND): file for file in subtask.files if file.name.startswith(BACKEND)
        }
        kind = cast("SavedKind", subtask.backend)
        return open_saved(kind, _BackendFiles(self.content, files), directory, memory=self.memory)

    def _subtasks(self, id: str) -> Sequence[SubtaskEntry]:
        return _subtasks_of(self.manifest, id)


def needed_files(manifest: Manifest, plan: PhysicalPlan, mine: Mine, *, sealed: bool) -> frozenset[str]:
    """The paths of the checkpoint's files that `Restored.load` reads for these subtasks."""
    paths = {file.name for file in manifest.files if sealed or not file.name.startswith(SEALED)}
    for entry in manifest.operators:
        for subtask in entry.subtasks:
            paths |= {f"{entry.id}/{subtask.subtask}/{name}" for name in (SOURCE, VALUES)}
    for task in plan.tasks:
        for index in _mine_of(task, mine):
            groups = key_group_range(index, task.parallelism, plan.max_parallelism)
            for operator in task.chain:
                for subtask in _meeting(_subtasks_of(manifest, operator.id), groups):
                    paths |= {f"{operator.id}/{subtask.subtask}/{file.name}" for file in subtask.files}
    return frozenset(paths)


@dataclass(frozen=True, slots=True)
class _BackendFiles:
    """A backend's files in the content of the checkpoint."""

    content: Content
    files: Mapping[str, StoredFile]

    @property
    def names(self) -> Sequence[str]:
        return tuple(self.files)

    def read(self, name: str) -> bytes:
        return self.content.read(self.files[name])

    def fetch(self, name: str, path: Path) -> None:
        if self.files[name].immutable:
            self.content.link(self.files[name], path)
        else:
            path.write_bytes(self.read(name))


def _mine_of(task: PhysicalTask, mine: Mine | None) -> list[int]:
    """The numbers of those subtasks of a task that are in `mine`; None: of all."""
    return [index for index in range(task.parallelism) if mine is None or (task.id, index) in mine]


def _subtasks_of(manifest: Manifest, id: str) -> Sequence[SubtaskEntry]:
    return next((entry.subtasks for entry in manifest.operators if entry.id == id), ())


def _meeting(subtasks: Sequence[SubtaskEntry], groups: range) -> list[SubtaskEntry]:
    """The old subtasks that had any of these key groups."""
    return [each for each in subtasks if each.first_group < groups.stop and each.last_group >= groups.start]


def _file(subtask: SubtaskEntry, name: str) -> StoredFile:
    for file in subtask.files:
        if file.name == name:
            return file
    raise DamagedError(f"subtask {subtask.subtask} has no {name} in the checkpoint", hint=ELSEWHERE)
