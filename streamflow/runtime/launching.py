"""Launching attempts: the first of a run, and after a failure the next, each from the newest checkpoint there is.

The checkpoint store is claimed once for the whole run. The setting `restore` counts until this run has taken a
checkpoint; from then on a restart continues from the newest one.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any, Final

from streamflow.config import Settings
from streamflow.core.serde import pack
from streamflow.disk import Disk, LocalDisk
from streamflow.errors import ConfigError, DamagedError, GoneError, StateError
from streamflow.graph.logical import LogicalGraph
from streamflow.graph.physical import PhysicalPlan
from streamflow.observe.logs import told
from streamflow.observe.registry import MetricsRegistry
from streamflow.operators.contract.source import Instance
from streamflow.runtime.attempt import Attempt, GoingOn, InlineAttempt
from streamflow.runtime.checkpoints.restoring import Restored, needed_files
from streamflow.runtime.checkpoints.sealed_files import SealedFiles, job_of, sealed_of
from streamflow.runtime.checkpoints.snapshots import JOB
from streamflow.runtime.checkpoints.taking import CheckpointMetrics, Checkpoints, Described
from streamflow.runtime.control.compatibility import fit, laid_out_as
from streamflow.runtime.deployment import Deployment, keepers
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import ExecutionProfile
from streamflow.state.backends.state_memory import StateMemory
from streamflow.state.checkpoints.blobs import open_blobs
from streamflow.state.checkpoints.content import Content
from streamflow.state.checkpoints.manifest import Manifest
from streamflow.state.checkpoints.store import CheckpointStore, FencedError

__all__ = ["Launcher", "open_store"]

_LOG: Final = logging.getLogger("streamflow.checkpoints")
_LOCK: Final = "lock"
_TEMPORARY: Final = "streamflow-work-"
_NUMBERED: Final = re.compile(r"(.+)#(\d{1,10})")


def open_store(place: str, job: str, settings: Settings, ports: Ports) -> CheckpointStore:
    """The checkpoints of a job in a folder or object store. Raises ConfigError for an invalid place."""
    key = settings.checkpoint_key
    return CheckpointStore(
        open_blobs(place, ports.disk, exclusive=settings.checkpoint_lock),
        job,
        clock=ports.clock,
        reach=ports.reach,
        keep=settings.checkpoint_keep,
        physical_every=settings.checkpoint_physical_every,
        key=None if key is None else key.reveal().encode(),
        each=ports.uploads.each,
    )


class Launcher:
    """Makes the attempts of one run by `make`; `open` first, `close` last. `apart`: the subtasks are in other
    processes, which restore their own state."""

    def __init__(
        self,
        graph: LogicalGraph,
        planned: Callable[[LogicalGraph, Settings], PhysicalPlan],
        plan: PhysicalPlan,
        profile: ExecutionProfile,
        settings: Settings,
        ports: Ports,
        registry: MetricsRegistry,
        *,
        make: Callable[[Deployment, Checkpoints | None, GoingOn], Attempt] = InlineAttempt,
        apart: bool = False,
    ) -> None:
        self._make = make
        self._apart = apart
        self._graph = graph
        self._planned = planned
        self._plan = plan
        self._job = Instance.given(settings.instance).of(plan.job)
        self._profile = profile
        self._settings = settings
        self._ports = ports
        self._registry = registry
        self._store: CheckpointStore | None = None
        self._work: Path | None = None
        self._temporary = False
        self._unlock: Callable[[], None] | None = None
        self._said_unnamed = False
        self._going_on = False
        """Whether this run has had a checkpoint to continue from: then it never begins with none."""
        self.metrics = CheckpointMetrics()
        self.notes: list[str] = []
        """Notes for the user about the place where the run continues."""

    def rescale(self, settings: Settings, plan: PhysicalPlan) -> None:
        """Makes the next attempts by other settings, and by the plan that they give."""
        self._settings, self._plan = settings, plan

    @property
    def awaited(self) -> str | None:
        """The unanswered request to the checkpoints' place, if it is on another machine; None if there is none."""
        return None if self._store is None else self._store.blobs.awaited

    async def open(self) -> None:
        """Claims the checkpoint store, if there is one. Raises StateError if another process runs the job. May be
        called again after an UnreachableError."""
        settings = self._settings
        if settings.checkpoint_dir is None and settings.restore not in ("latest", "none"):
            raise ConfigError(
                f"restore is {settings.restore!r}, and the run has no place for checkpoints of its own",
                hint="give checkpoint_dir as well: the restored job continues there",
            )
        if settings.checkpoint_dir is not None:
            self._store = self._store or open_store(settings.checkpoint_dir, self._job, settings, self._ports)
            await self._ports.uploads(self._store.claim)
        if settings.state_backend == "rocksdb":
            await self._ports.state(self._make_work)

    async def attempt(self) -> Attempt:
        """Makes the next attempt."""
        run = f"run-{self._ports.random.token()}"
        folder = None if self._work is None else self._work / run
        memory = StateMemory(self._settings.memory_budget, keepers(self._plan))
        restored: Restored | None = None
        place: str | None = None
        last = 0
        if self._store is not None:
            last = await self._ports.uploads(self._store.next_number) - 1
            content, place = await self._ports.state(self._to_restore, None if self._apart else folder)
            if content is None and self._going_on:
                raise GoneError(
                    f"the checkpoints of {self._job} in {self._store.place} are gone, which this run has had: without "
                    "them it would begin again, and put out everything a second time",
                    hint="put them back, or give a savepoint to start from, or restore='none' to start with nothing",
                )
            if content is None:
                self._say_unnamed()
            else:
                manifest = content.manifest
                self._going_on = True
                restored = Restored(content, self._settings.state_backend, folder, memory)
                try:
                    relaid = laid_out_as(self._graph, manifest)
                    self._plan = (
                        self._plan if relaid is self._graph else self._planned(relaid, self._settings)
                    )
                    fit(manifest, self._plan).check(
                        manifest, allow_dropped=self._settings.allow_dropped_state
                    )
                    await self._ports.state(restored.load, self._plan, () if self._apart else None)
                except BaseException:
                    await self._ports.state(restored.close)
                    raise
                _LOG.info("job restored", extra=told(number=manifest.number, kind=manifest.kind))
                if manifest.finished:
                    note = 'the job had come to its end and reads nothing more; restore="none" begins again'
                    _LOG.warning(note, extra=told(number=manifest.number))
                    self.notes.append(note)
        # Records that are read again count again.
        number = None if restored is None else restored.epoch
        self._registry.roll_back({} if number is None else self.metrics.counts.get(number, {}))
        checkpoints = self._checkpoints(restored, run)
        deployment = Deployment(
            self._plan,
            self._profile,
            self._settings,
            self._ports,
            self._registry,
            run=run,
            memory=memory,
            state_dir=None if self._apart else folder,
            restored=restored,
            first_epoch=last + 1,
            checkpointed=checkpoints is not None,
            apart=self._apart,
        )
        going_on = GoingOn(None if restored is None else restored.manifest, place, folder)
        attempt = self._make(deployment, checkpoints, going_on)
        await attempt.build()
        return attempt

    async def cause(self, error: Exception) -> Exception:
        """The cause of a run's failure: if another process has taken the job over, that fact, and not its
        consequences."""
        if self._store is None or self._store.incarnation is None or isinstance(error, FencedError):
            return error
        try:
            await self._ports.uploads(self._store.check)
        except FencedError as fenced:
            fenced.__cause__ = error
            return fenced
        except (StateError, OSError):
            return error
        return error

    async def savepoint(self, number: int, target: str, notes: Mapping[str, Mapping[str, Any]]) -> str:
        """Copies a checkpoint to a place of the user's; returns the place as `restore` takes it. `notes` are the
        committers' after its epoch."""
        assert self._store is not None
        store = open_store(target, self._job, self._settings, self._ports)
        await self._ports.uploads(self._copy, number, store, notes)
        return f"{target}#{number}"

    async def reach_target(self, target: str) -> None:
        """Raises StateError if a savepoint cannot be written to a place, as far as that can be told beforehand."""
        store = open_store(target, self._job, self._settings, self._ports)
        await self._ports.uploads(store.claim)
        await self._ports.uploads(store.close)

    def check_target(self, target: str) -> None:
        """Raises ConfigError for an invalid place of a savepoint."""
        named: object = target
        if not isinstance(named, str) or not target.strip() or "\0" in target:
            raise ConfigError(
                f"a savepoint's place is {target!r}", hint="give a folder or a URL like s3://bucket/folder"
            )
        scheme, separator, rest = target.partition("://")
        if separator and scheme != "file":
            return
        place = Path(rest if separator else target).resolve()
        if place == Path(place.anchor):
            raise ConfigError(f"a savepoint would lie in {place} itself", hint="give it a folder of its own")
        stored = place / self._job
        around = (stored, *stored.parents)
        for node in self._plan.sinks:
            written = node.sink.writes_to
            if written is not None and Path(written).resolve() in around:
                raise ConfigError(
                    f"a savepoint in {place} would lie among the output of {node.id}",
                    hint="give it a folder of its own",
                )
        own = (self._settings.checkpoint_dir or "://").removeprefix("file://")
        if "://" not in own and Path(own, self._job).resolve() in around:
            raise ConfigError(
                f"a savepoint in {place} would lie among the job's checkpoints",
                hint="give it a folder of its own",
            )

    async def close(self) -> None:
        """Closes the store and removes everything that only this run needed."""
        if self._store is not None:
            await self._ports.uploads(self._store.close)
        if self._work is not None and self._temporary:
            await self._ports.state(shutil.rmtree, self._work, True)
        if self._unlock is not None:
            self._unlock()

    def _make_work(self) -> None:
        """Makes the folder for backends, beside local checkpoints, so that a file can be in both without being
        copied; removes leftovers of dead runs."""
        settings = self._settings
        if settings.state_dir is not None:
            place = Path(settings.state_dir, self._job)
            with _kept_in(place):
                self._work = self._own_folder(place)
        elif settings.checkpoint_dir is not None and "://" not in settings.checkpoint_dir:
            self._work = Path(settings.checkpoint_dir, self._job, "work")
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            place = Path(gettempdir())
            with _kept_in(place):
                self._work = self._temporary_folder(place)

    def _own_folder(self, place: Path) -> Path:
        """A folder of this process below `place`; removes those of dead processes."""
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_dead(place.glob("process-*"), self._ports.disk)
        made = place / f".process-{self._ports.random.token()}"
        made.mkdir(mode=0o700)
        return self._claimed(made, self._ports.disk)

    def _temporary_folder(self, place: Path) -> Path:
        """A folder of this process in one that others use, too; removes those of this account's dead processes."""
        disk = LocalDisk()
        _remove_dead(filter(_is_ours, place.glob(f"{_TEMPORARY}*")), disk)
        return self._claimed(Path(mkdtemp(prefix=f".{_TEMPORARY}", dir=place)), disk)

    def _claimed(self, hidden: Path, disk: Disk) -> Path:
        """A folder under a name that others look for, invisible to them before it has its lock."""
        self._unlock = disk.lock(hidden / _LOCK)
        self._temporary = True
        return hidden.rename(hidden.with_name(hidden.name[1:]))

    def _to_restore(self, work: Path | None) -> tuple[Content | None, str]:
        """The content of what to go on from, brought to `work`, and its place; None for nothing."""
        assert self._store is not None
        folder = None if work is None else work / "fetched"
        # Before the first checkpoint of this run the newest there is may be that of another, which was not asked for.
        asked = "latest" if self.metrics.taken else self._settings.restore
        self._going_on = self._going_on or self.metrics.taken > 0
        own = str(self._settings.checkpoint_dir)
        wanted = _of_the_job if self._apart else None
        if asked == "none":
            return None, own
        if asked == "latest":
            content, skipped = self._store.bring_latest(folder, wanted)
            self.notes += [f"checkpoint {each.number} was passed over: {each.why}" for each in skipped]
            for each in skipped:
                _LOG.warning("checkpoint passed over", extra=told(number=each.number, why=each.why))
            return content, own
        numbered = _NUMBERED.fullmatch(asked)
        place = numbered[1] if numbered else asked
        store = open_store(place, self._job, self._settings, self._ports)
        if numbered is None:
            content, _ = store.bring_latest(folder, wanted)
            if content is None:
                raise ConfigError(
                    f"restore is {asked!r}, and there is no intact checkpoint of job {self._job}",
                    hint='write latest, none, or where a checkpoint is, like "savepoints#42"',
                )
            return content, place
        number, there = int(numbered[2]), store.numbers()
        if number not in there:
            known = f"there are {', '.join(map(str, there[-10:]))}" if there else "there is none of this job"
            raise ConfigError(
                f"restore is {asked!r}, and there is no checkpoint {numbered[2]} of {self._job} in {store.place}",
                hint=f"{known}; write latest, none, or where a checkpoint is",
            )
        try:
            manifest = store.manifest(number)
            return store.bring(manifest, folder, None if wanted is None else wanted(manifest)), place
        except DamagedError as error:
            raise StateError(
                f"checkpoint {asked} is damaged: {error.message}",
                hint='choose another one, or restore="latest"',
            ) from error

    def _say_unnamed(self) -> None:
        """Logs, at the first checkpoints of a job, its stateful operators that only their place in the program
        names."""
        described = [each for each in _described(self._plan) if each.kind != "read"]
        unnamed = [each.id for each in described if re.fullmatch(rf"{re.escape(each.kind)}-\d+", each.id)]
        if unnamed and not self._said_unnamed:
            self._said_unnamed = True
            note = (
                f'state without a name of its own is kept by {", ".join(unnamed)}: give each one with .named("…"), or '
                "a program that is changed later may not find it, or find another's"
            )
            _LOG.warning(note)
            self.notes.append(note)

    def _checkpoints(self, restored: Restored | None, run: str) -> Checkpoints | None:
        if self._store is None:
            return None
        return Checkpoints(
            self._store,
            self._ports,
            mode=self._profile.name,
            max_parallelism=self._plan.max_parallelism,
            operators=_described(self._plan),
            parent=None if restored is None else restored.epoch,
            tolerated=self._settings.checkpoint_failures,
            metrics=self.metrics,
            line=run if restored is None else restored.line,
        )

    def _copy(self, number: int, target: CheckpointStore, notes: Mapping[str, Mapping[str, Any]]) -> None:
        assert self._store is not None
        manifest = self._store.manifest(number)
        job = job_of(self._store, manifest)
        # Output that is visible by now must not be committed again by a run that continues from there, maybe
        # elsewhere.
        later = self._committed_at_the_end()
        left = SealedFiles.of([piece for piece in sealed_of(self._store, manifest, job) if piece[0] in later])
        kept = {name: value for name, value in job.items() if name != "sealed"} | {"notes": notes}
        if left.listed is not None:
            kept["sealed"] = left.listed
        changed: dict[str, bytes | None] = {file.name: None for file in manifest.files}
        changed |= {JOB: pack(kept, bounded=False), **dict(left.files)}
        self._store.copy(manifest, target, kind="savepoint", changed=changed)

    def _committed_at_the_end(self) -> set[str]:
        if self._profile.commits == "epoch":
            return set()
        return {node.id for node in self._plan.sinks if node.sink.commits != "epoch"}


def _remove_dead(folders: Iterable[Path], disk: Disk) -> None:
    """Removes the folders of processes that live no more."""
    for folder in folders:
        with suppress(OSError):  # it lives
            disk.lock(folder / _LOCK)()
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether a process of this account has made a folder among others' ones."""
    try:
        return not folder.is_symlink() and folder.stat().st_uid == os.geteuid() and (folder / _LOCK).is_file()
    except OSError:
        return False


@contextmanager
def _kept_in(place: Path) -> Generator[None]:
    """Maps OSError to StateError: live state cannot be kept there."""
    try:
        yield
    except OSError as error:
        raise StateError(
            f"cannot keep live state in {place}: {error.strerror or error}",
            hint="check its permissions and the room that is left, or give another state_dir",
        ) from error


def _of_the_job(manifest: Manifest) -> Container[str]:
    """The files that a coordinator reads whose subtasks are in other processes."""
    return needed_files(manifest, PhysicalPlan(manifest.job, (), ()), (), sealed=True)


def _described(plan: PhysicalPlan) -> list[Described]:
    """The operators that a checkpoint may describe."""
    described: list[Described] = []
    for task in plan.tasks:
        if task.source is not None:
            source = task.source.source
            identity = {"source": type(source).__name__, "input": dict(source.input)}
            described.append(Described(task.source.id, "read", task.parallelism, identity))
        for operator in task.chain:
            signature = operator.spec.state_signature(operator.inputs)
            if signature is not None:
                described.append(Described(operator.id, operator.spec.kind, task.parallelism, signature))
    return described
