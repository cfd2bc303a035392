"""The checkpoints of one job: who may write them, what there is, whether it is intact, and what is removed.

    <root>/<job>/lock                              held by the process that runs the job (local folders)
    <root>/<job>/claims/<incarnation>              who runs it: the highest one may publish
    <root>/<job>/blobs/<generation>/<digest>       content
    <root>/<job>/manifests/<number>                what a checkpoint consists of; made last, in one step
    <root>/<job>/quarantine/<number>.<n>           manifests that were set aside, and why

A generation shares no stored bytes with the one before: files of one generation are hard links to one another and to
the live database, so that damage to one would end all checkpoints that have it. Content is removed only if no manifest
names it and no checkpoint is being written.
"""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal, Self

import msgspec

from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.manifest import (
    FORMAT,
    MAX_MANIFEST_BYTES,
    Manifest,
    SignatureError,
    StoredFile,
    decode_manifest,
    encode_manifest,
)
from streamflow.state.checkpoints.retention import first_generation, retained
from streamflow.state.checkpoints.writer import CheckpointWriter, Identity, identity_of
from streamflow.time.clock import Clock

__all__ = ["CheckpointStore", "Problem", "Skipped", "jobs_in"]

_JOB: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NUMBER: Final = re.compile(r"[0-9]{10}")
_GRACE: Final = 3_600


def _nothing(point: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file of a checkpoint; `file` is its path in the checkpoint, or "manifest"."""

    file: str
    what: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was passed over, and why."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class _Summary:
    kind: Literal["checkpoint", "savepoint"]
    generation: int
    incarnation: int
    keys: frozenset[str]


class CheckpointStore:
    """The checkpoints of `job` in `blobs`. To write it has to `claim` first; reading needs nothing.

    `keep` checkpoints are retained; every `physical_every`-th begins a generation. With a `key`, manifests are signed
    and unsigned ones refused. `reach` is called with the name of each step at which a crash would matter. In object
    stores what no manifest names is removed only after `grace` seconds. Everything raises StateError and nothing else.

    >>> from streamflow.disk import LocalDisk
    >>> from streamflow.state.checkpoints.blobs import open_blobs
    >>> from streamflow.time.clock import SystemClock
    >>> with CheckpointStore(open_blobs("memory://flights", LocalDisk()), "flights", clock=SystemClock()) as store:
    ...     incarnation = store.claim()
    ...     writer = store.session(store.next_number())
    ...     file = writer.put([b"state"], "job.msgpack")
    ...     published = writer.publish(Manifest(number=1, files=(file,)))
    ...     store.numbers(), store.read(published.files[0]), store.verify(1)
    ([1], b'state', [])
    """

    def __init__(
        self,
        blobs: Blobs,
        job: str,
        *,
        clock: Clock,
        reach: Callable[[str], None] = _nothing,
        keep: int = 3,
        physical_every: int = 10,
        key: bytes | None = None,
        grace: float = _GRACE,
    ) -> None:
        if not _JOB.fullmatch(job):
            raise StateError(
                f"{job!r} cannot be a job's name in a checkpoint directory",
                hint="use 1 to 63 lower-case letters, digits, '-' and '_', beginning with a letter or digit",
            )
        if keep < 1 or physical_every < 1:
            raise StateError("at least one checkpoint is kept, and every one or more begins a generation")
        self.job = job
        self.blobs = blobs
        self.incarnation: int | None = None
        """This process's claim; None before `claim`."""
        self._clock = clock
        self._reach = reach
        self._keep = keep
        self._physical_every = physical_every
        self._key = key
        self._grace = int(grace * 1_000_000)
        self._release: Callable[[], None] | None = None
        self._gate = threading.Lock()  # sessions begin, and content is removed, one at a time
        self._sessions: set[CheckpointWriter] = set()
        self._due = False
        self._seen = 0
        self._published: set[int] = set()
        self._generation: int | None = None
        self._renew = False
        self._known: dict[Identity, StoredFile] = {}
        self._summaries: dict[int, _Summary] = {}
        self._verified: set[tuple[int, str]] = set()

    @property
    def place(self) -> str:
        """Where the store is, without credentials."""
        return self.blobs.place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process run the job. May be called twice."""
        release, self._release = self._release, None
        if release is not None:
            release()
        self.incarnation = None

    # Who may write.

    def claim(self) -> int:
        """Take the job over: the new incarnation. In a local folder a job that a live process runs is refused; in an
        object store that process can publish nothing more. Removes what dead runs left unfinished."""
        if self.incarnation is not None:
            return self.incarnation
        if self._release is None:
            self._release = self.blobs.lock(f"{self.job}/lock")
        try:
            earlier = self._claims()
            incarnation, numbers = max(earlier, default=0) + 1, self.numbers()
            self._seen = max(numbers, default=0)
            while not self.blobs.create(self._claim_key(incarnation), self._claim(incarnation), _nothing):
                incarnation += 1
        except StateError:
            self.close()
            raise
        self.incarnation = incarnation
        with suppress(StateError):  # what is left can be removed another time
            for each in earlier:
                self.blobs.remove(self._claim_key(each))
            self.blobs.sweep(self.job)
            self._collect()
        return incarnation

    def session(self, number: int, *, apart: bool = False) -> CheckpointWriter:
        """Begin to write checkpoint `number`; `apart`: in a generation of its own."""
        if self.incarnation is None:
            raise StateError(f"job {self.job} was not claimed, so that no checkpoint can be written")
        with self._gate:
            if self._generation is None:
                self._generation = self._newest_generation()
            earlier = self._generation
            renewed = apart or self._renew or first_generation(number, earlier, self._physical_every)
            generation = number if renewed or earlier is None else earlier
            writer = CheckpointWriter(
                self,
                self.blobs,
                self._folder(generation),
                number,
                generation,
                link=not renewed or (earlier is None and not apart),
                known=self._known,
                reach=self._reach,
            )
            self._sessions.add(writer)
        return writer

    def next_number(self) -> int:
        """A number that nothing published here has had."""
        seen = [self._seen, *self.numbers(), *self._published]
        for entry in self.blobs.entries(f"{self.job}/quarantine"):
            seen += [int(found) for found in _NUMBER.findall(entry.key.rpartition("/")[2][:10])]
        for each in self._claims():
            with suppress(StateError, ValueError, KeyError, TypeError):
                seen.append(int(msgspec.json.decode(self.blobs.get(self._claim_key(each), 4096))["seen"]))
        return max(seen) + 1

    # What there is.

    def numbers(self) -> list[int]:
        """The checkpoints and savepoints there are, ascending."""
        return self._numbered("manifests")

    def manifest(self, number: int) -> Manifest:
        """A checkpoint's manifest. DamagedError where it is not there or not what was written, UnsignedError where it
        is unsigned and there is a key, or the other way round, StateError where a newer version wrote it."""
        try:
            manifest = decode_manifest(
                self.blobs.get(self._manifest_key(number), MAX_MANIFEST_BYTES), self._key
            )
            if (manifest.number, manifest.job) != (number, self.job):
                raise DamagedError(f"it is that of checkpoint {manifest.number} of {manifest.job}")
        except StateError as error:
            raise type(error)(
                f"the manifest of checkpoint {number} of {self.job} cannot be used: {error.message}",
                hint=error.hint,
            ) from error
        self._summaries[number] = self._summed(manifest)
        return manifest

    def latest(self) -> Manifest | None:
        """The newest manifest; its files are not looked at."""
        numbers = self.numbers()
        return self.manifest(numbers[-1]) if numbers else None

    def latest_intact(self) -> tuple[Manifest | None, list[Skipped]]:
        """The newest checkpoint all of whose files are as they were written, and those that were passed over for it;
        the store that has the claim puts these into quarantine. None if there never was one. StateError where there
        are some and none is intact, or where a newer version or another key would be needed."""
        numbers, skipped = self.numbers(), list[Skipped]()
        for number in reversed(numbers):
            try:
                manifest = self.manifest(number)
            except DamagedError as error:
                skipped.append(Skipped(number, str(error)))
                continue
            problems = self._problems(manifest)
            if not problems:
                if self.incarnation is not None:
                    for each in skipped:
                        self.quarantine(each.number, each.why)
                self._generation = manifest.generation
                self._verified = {(file.generation, file.digest) for _, file in manifest.all_files()}
                return manifest, skipped
            skipped.append(Skipped(number, "; ".join(f"{each.file}: {each.what}" for each in problems[:3])))
        if skipped:
            raise DamagedError(
                f"no checkpoint of {self.job} in {self.place} is intact: "
                + "; ".join(f"{each.number}: {each.why}" for each in skipped[:3]),
                hint="give the right checkpoint_key if they are signed, a savepoint to start from, or restore='none'",
            )
        if self._marker() in {entry.key for entry in self.blobs.entries(f"{self.job}/claims")}:
            raise DamagedError(
                f"the checkpoints of {self.job} in {self.place} are gone: there were some, no manifest is left",
                hint="give a savepoint to start from, or restore='none' to start with nothing",
            )
        return None, []

    def read(self, file: StoredFile) -> bytes:
        """A file's content. DamagedError where it is not what was written."""
        data = self.blobs.get(self._key_of(file), file.size)
        self._compare(file, len(data), blake2b(data, digest_size=32).hexdigest())
        return data

    def fetch(self, file: StoredFile, path: Path) -> None:
        """Put a file's content at `path`, which is not there yet; an immutable one as a link if that can be.
        DamagedError where it is not what was written."""
        key, content = self._key_of(file), (file.generation, file.digest)
        if file.immutable and self.blobs.link_out(key, path):
            if content in self._verified:
                self._verified.discard(content)
            else:
                self._check(file)
        else:
            stored = self.blobs.fetch(key, path, file.size)
            self._compare(file, stored.size, stored.digest)
        if file.immutable and (identity := identity_of(path)) is not None:
            with self._gate:
                self._known = {**self._known, identity: file}

    def verify(self, number: int) -> list[Problem]:
        """What is wrong with a checkpoint; reads every byte of it."""
        try:
            return self._problems(self.manifest(number))
        except DamagedError as error:
            return [Problem("manifest", str(error))]

    # What is removed.

    def quarantine(self, number: int, why: str) -> None:
        """Set a checkpoint aside: its manifest is kept, but is no checkpoint any more."""
        there = {entry.key for entry in self.blobs.entries(f"{self.job}/quarantine")}
        place = f"{self.job}/quarantine/{number:010}"
        free = next(n for n in range(1, len(there) + 2) if f"{place}.{n}" not in there)
        self.blobs.move(self._manifest_key(number), f"{place}.{free}")
        self._summaries.pop(number, None)
        self.blobs.create(f"{place}.{free}.why", why.encode(), _nothing)
        self.blobs.settle()

    def retain(self) -> list[int]:
        """Remove checkpoints that are no longer kept, then what no manifest names; savepoints stay. The numbers that
        were removed."""
        with self._exclusively():
            summaries: dict[int, _Summary] = {}
            for number in self.numbers():
                try:
                    summaries[number] = self._summary(number)
                except SignatureError:
                    raise  # with the wrong key all of them would be set aside
                except DamagedError as error:
                    self.quarantine(number, str(error))
            generations = {
                number: each.generation for number, each in summaries.items() if each.kind == "checkpoint"
            }
            kept = retained(generations, self._keep)
            removed = sorted(set(generations) - kept)
            self._remove(removed)
        return removed

    def remove(self, number: int) -> None:
        """Remove one checkpoint or savepoint."""
        with self._exclusively():
            if number not in self.numbers():
                raise StateError(f"{self.job} in {self.place} has no checkpoint {number}")
            if self.numbers() == [number]:
                self.blobs.remove(self._marker())
            self._remove([number])

    # Elsewhere.

    def copy(
        self,
        manifest: Manifest,
        target: CheckpointStore,
        kind: Literal["checkpoint", "savepoint"] = "savepoint",
    ) -> Manifest:
        """Copy a checkpoint with all it needs to another store, verifying it; the manifest there. The target is claimed
        meanwhile if it is not. StateError where it has a checkpoint of this number."""
        claimed = target.incarnation is not None
        target.claim()
        try:
            if manifest.number in target.numbers():
                raise StateError(
                    f"{target.place} has a checkpoint {manifest.number} of {target.job} already",
                    hint="give another place",
                )
            writer = target.session(manifest.number, apart=True)
            try:
                copied = _with_files(manifest, lambda file: self._copied(file, writer))
                return writer.publish(msgspec.structs.replace(copied, kind=kind, parent=None))
            finally:
                writer.abandon()
        finally:
            if not claimed:
                target.close()

    def _copied(self, file: StoredFile, writer: CheckpointWriter) -> StoredFile:
        stored = writer.put([self.read(file)], file.name)
        return msgspec.structs.replace(stored, immutable=file.immutable)

    # For the writer.

    def publish(self, writer: CheckpointWriter, manifest: Manifest) -> Manifest:
        """The last step of `writer`, which calls this."""
        incarnation = self.incarnation
        if writer not in self._sessions or incarnation is None or manifest.number != writer.number:
            raise StateError(f"checkpoint {writer.number} is over already")
        manifest = msgspec.structs.replace(
            manifest,
            format=FORMAT,
            streamflow=_version(),
            job=self.job,
            incarnation=incarnation,
            generation=writer.generation,
            created=self._clock.now(),
        )
        if manifest.parent is None and self._published and manifest.kind == "checkpoint":
            manifest = msgspec.structs.replace(manifest, parent=max(self._published))
        data = encode_manifest(manifest, self._key)
        self._check_claim()
        self.blobs.settle()
        self._reach("manifest.before")
        if not self._create(manifest, data):
            raise StateError(f"{self.job} in {self.place} has a checkpoint {manifest.number} already")
        self._reach("manifest.published")
        if not self.blobs.exclusive:
            self._check_claim()
        self._summaries[manifest.number] = self._summed(manifest)
        with self._gate:
            self._published.add(manifest.number)
            if manifest.kind == "checkpoint":
                self._generation, self._known, self._renew = writer.generation, writer.identities, False
        with suppress(StateError):  # it is published whatever becomes of this
            self._supersede(manifest)
            if self._marker() not in {entry.key for entry in self.blobs.entries(f"{self.job}/claims")}:
                self.blobs.create(self._marker(), b"", _nothing)
        self.end(writer, failed=False)
        return manifest

    def end(self, writer: CheckpointWriter, *, failed: bool) -> None:
        """`writer` writes no more; `failed`: the disk did not confirm what it was given, so that the next one begins
        anew."""
        with self._gate:
            if writer not in self._sessions:
                return
            self._sessions.discard(writer)
            self._renew = self._renew or failed
            due = self._due or writer.number not in self._published
        if due:
            with suppress(StateError):
                self._collect()

    # Inside.

    def _create(self, manifest: Manifest, data: bytes) -> bool:
        key = self._manifest_key(manifest.number)
        if self.blobs.create(key, data, lambda step: self._reach(f"manifest.{step}")):
            return True
        if self.blobs.exclusive or manifest.number <= self._seen or manifest.kind == "savepoint":
            return False
        if self.manifest(manifest.number).incarnation >= manifest.incarnation:
            return False
        self.quarantine(manifest.number, f"published after incarnation {manifest.incarnation} had taken over")
        return self.blobs.create(key, data, lambda step: self._reach(f"manifest.{step}"))

    def _supersede(self, manifest: Manifest) -> None:
        """Set aside what is not on the way from the parent to this checkpoint: going back to it would be wrong."""
        if manifest.kind == "savepoint":
            return
        numbers = self.numbers()
        parent = manifest.parent if manifest.parent in numbers else None
        for number in numbers:
            if (
                number == manifest.number
                or number in self._published
                or (parent is not None and number <= parent)
            ):
                continue
            if self._summary(number).kind == "checkpoint":
                origin = "nothing" if manifest.parent is None else f"checkpoint {manifest.parent}"
                self.quarantine(number, f"the job went on from {origin} to checkpoint {manifest.number}")

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if self.incarnation is not None:
            self._check_claim()
            yield
            return
        release = self.blobs.lock(f"{self.job}/lock")
        try:
            yield
        finally:
            release()

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            self.blobs.remove(self._manifest_key(number))
            self._summaries.pop(number, None)
            self._reach("retain.manifest_removed")
        self.blobs.settle()  # or a manifest would come back that has lost its content
        self._collect()

    def _collect(self) -> None:
        """Remove what no manifest names, now or when no checkpoint is being written."""
        with self._gate:
            self._due = bool(self._sessions)
            if self._due:
                return
            try:
                named = {key for number in self.numbers() for key in self._summary(number).keys}
            except StateError:
                return  # what cannot be read may need any of it
            latest = self._clock.now() - self._grace
            removed: set[str] = set()
            for entry in self.blobs.entries(f"{self.job}/blobs"):
                if entry.key not in named and (self.blobs.exclusive or entry.modified < latest):
                    self.blobs.remove(entry.key)
                    removed.add(entry.key)
                    self._reach("retain.blob_removed")
            self._known = {
                identity: file for identity, file in self._known.items() if self._key_of(file) not in removed
            }
            self.blobs.sweep(f"{self.job}/blobs")

    def _problems(self, manifest: Manifest) -> list[Problem]:
        found: list[Problem] = []
        checked: dict[str, str | None] = {}
        for path, file in manifest.all_files():
            key = self._key_of(file)
            if key not in checked:
                try:
                    self._check(file)
                    checked[key] = None
                except DamagedError as error:
                    checked[key] = error.message
            problem = checked[key]
            if problem is not None:
                found.append(Problem(path, problem))
        return found

    def _check(self, file: StoredFile) -> None:
        stored = self.blobs.digest(self._key_of(file), file.size)
        self._compare(file, stored.size, stored.digest)

    def _compare(self, file: StoredFile, size: int, digest: str) -> None:
        if size != file.size:
            raise DamagedError(f"{file.name} ({self._key_of(file)}) has {size} bytes, not {file.size}")
        if digest != file.digest:
            raise DamagedError(
                f"{file.name} ({self._key_of(file)}) is not what was written: its digest differs"
            )

    def _check_claim(self) -> None:
        highest = max(self._claims(), default=0)
        if self.incarnation is not None and highest > self.incarnation:
            raise StateError(
                f"another process has taken over job {self.job} in {self.place} "
                f"(incarnation {highest}, this one is {self.incarnation})",
                hint="this process is fenced off: it publishes no more; stop it",
            )

    def _claim(self, incarnation: int) -> bytes:
        claim: dict[str, int | str] = {
            "incarnation": incarnation,
            "at": self._clock.now(),
            "seen": self._seen,
        }
        if not self.blobs.exclusive:
            # Two processes must not write the same bytes: after a lost answer, the bytes tell whose claim it is.
            claim["by"] = f"{platform.node()}:{os.getpid()}:{id(self)}"
        return msgspec.json.encode(claim)

    def _newest_generation(self) -> int | None:
        for number in reversed(self.numbers()):
            with suppress(StateError):
                return self._summary(number).generation
        return None

    def _summary(self, number: int) -> _Summary:
        if number not in self._summaries:
            self.manifest(number)
        return self._summaries[number]

    def _summed(self, manifest: Manifest) -> _Summary:
        keys = frozenset(self._key_of(file) for _, file in manifest.all_files())
        return _Summary(manifest.kind, manifest.generation, manifest.incarnation, keys)

    def _claims(self) -> list[int]:
        return self._numbered("claims")

    def _numbered(self, folder: str) -> list[int]:
        names = [entry.key.rpartition("/")[2] for entry in self.blobs.entries(f"{self.job}/{folder}")]
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def _claim_key(self, incarnation: int) -> str:
        return f"{self.job}/claims/{incarnation:010}"

    def _marker(self) -> str:
        """There since the first checkpoint was published, so that their loss is noticed."""
        return f"{self.job}/claims/published"

    def _manifest_key(self, number: int) -> str:
        return f"{self.job}/manifests/{number:010}"

    def _folder(self, generation: int) -> str:
        return f"{self.job}/blobs/{generation:010}"

    def _key_of(self, file: StoredFile) -> str:
        return f"{self._folder(file.generation)}/{file.digest}"


def jobs_in(blobs: Blobs) -> list[str]:
    """The jobs that have checkpoints, or had some, at a place."""
    return [name for name in blobs.folders("") if _JOB.fullmatch(name)]


def _with_files(manifest: Manifest, change: Callable[[StoredFile], StoredFile]) -> Manifest:
    replace = msgspec.structs.replace
    operators = tuple(
        replace(
            operator,
            subtasks=tuple(
                replace(subtask, files=tuple(change(file) for file in subtask.files))
                for subtask in operator.subtasks
            ),
        )
        for operator in manifest.operators
    )
    return replace(manifest, files=tuple(change(file) for file in manifest.files), operators=operators)


@cache
def _version() -> str:
    try:
        return version("streamflow")
    except PackageNotFoundError:
        return "unknown"
