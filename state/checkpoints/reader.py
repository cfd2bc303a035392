"""Reading the checkpoints of a job: their numbers, whether they are intact, and their content.

All content is compared with its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypeVar

from streamflow.errors import DamagedError, GoneError, StateError
from streamflow.state.checkpoints.blobs import Blobs, Stored
from streamflow.state.checkpoints.content import Content, Each, check_stored, one_by_one
from streamflow.state.checkpoints.layout import JobLayout, is_job, numbers_of
from streamflow.state.checkpoints.manifest import MAX_MANIFEST_BYTES, Manifest, StoredFile, decode_manifest

__all__ = ["CheckpointReader", "Problem", "Skipped", "Summary", "jobs_in"]

Judged = TypeVar("Judged")


@dataclass(frozen=True, slots=True)
class Problem:
    """A damaged file of a checkpoint, and the damage; `file` is its path in the checkpoint, or "manifest"."""

    file: str
    what: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was passed over, and the reason."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The facts of a manifest that keeping order needs: `keys` are those of the content that it names."""

    kind: Literal["checkpoint", "savepoint"]
    generation: int
    incarnation: int
    keys: frozenset[str]


class CheckpointReader:
    """The checkpoints of `job` in `blobs`. With a `key`, unsigned ones are refused. `each` reads several files at the
    same time, where it can. Everything raises StateError."""

    def __init__(self, blobs: Blobs, job: str, *, key: bytes | None = None, each: Each = one_by_one) -> None:
        self.job = job
        self.blobs = blobs
        self._layout = JobLayout(job)
        self._key = key
        self._each = each
        self._summaries: dict[int, Summary] = {}

    @property
    def place(self) -> str:
        """The place of the checkpoints, without credentials."""
        return self.blobs.place

    def numbers(self) -> list[int]:
        """The numbers of checkpoints and savepoints, ascending."""
        return numbers_of(self.blobs.entries(self._layout.manifests))

    def manifest(self, number: int) -> Manifest:
        """A checkpoint's manifest. Raises DamagedError if it is missing or damaged, UnsignedError if it is unsigned
        and there is a key, or the other way round, StateError if a newer version wrote it."""
        try:
            data = self.blobs.get(self._layout.manifest(number), MAX_MANIFEST_BYTES)
            manifest = decode_manifest(data, self._key)
            if (manifest.number, manifest.job) != (number, self.job):
                raise DamagedError(f"it is that of checkpoint {manifest.number} of {manifest.job}")
        except StateError as error:
            told = f"the manifest of checkpoint {number} of {self.job} cannot be used: {error.message}"
            raise type(error)(told, hint=error.hint) from error
        self._summaries[number] = self._summed(manifest)
        return manifest

    def latest(self) -> Manifest | None:
        """The newest manifest; its files are not checked."""
        numbers = self.numbers()
        return self.manifest(numbers[-1]) if numbers else None

    def latest_intact(self) -> tuple[Manifest | None, list[Skipped]]:
        """The newest intact checkpoint, and those passed over for it. None if there never was one.

        Raises DamagedError if there are some and none is intact, or all are gone; StateError if a newer version or a
        key would be needed.
        """
        return self._newest(self._checked)

    def bring_latest(
        self, folder: Path | None, wanted: Callable[[Manifest], Container[str]] | None = None
    ) -> tuple[Content | None, list[Skipped]]:
        """The newest intact checkpoint, like `latest_intact`, with its content, of which every byte is read once. With
        `wanted` only the files with these paths are kept; the others are compared with their digests."""
        return self._newest(
            lambda manifest: self.bring(manifest, folder, None if wanted is None else wanted(manifest))
        )

    def bring(self, manifest: Manifest, folder: Path | None, wanted: Container[str] | None = None) -> Content:
        """The content of a checkpoint on this machine, immutable files in `folder` (None: in a temporary one); with
        `wanted` as `bring_latest`. DamagedError where any of it is not what was written."""
        content = Content(manifest, self.blobs, self._layout.content, folder, wanted)
        return content.fetched(self._each, check_others=True)

    def read(self, file: StoredFile) -> bytes:
        """A file's content. Raises DamagedError if it is not the written one."""
        key = self._layout.content(file)
        data = self.blobs.get(key, file.size)
        check_stored(file, key, Stored(blake2b(data, digest_size=32).hexdigest(), len(data)))
        return data

    def fetch(self, file: StoredFile, path: Path) -> None:
        """Puts a file's content at `path`, which does not exist yet; an immutable one as a link if possible. Raises
        DamagedError if it is not the written one."""
        key = self._layout.content(file)
        if file.immutable and self.blobs.link_out(key, path):
            self._check(file)
        else:
            check_stored(file, key, self.blobs.fetch(key, path, file.size))

    def verify(self, number: int) -> list[Problem]:
        """The damage of a checkpoint; reads every byte of it."""
        try:
            return self._problems(self.manifest(number))
        except DamagedError as error:
            return [Problem("manifest", str(error))]

    def _newest(self, judged: Callable[[Manifest], Judged]) -> tuple[Judged | None, list[Skipped]]:
        """The result of `judged` for the newest checkpoint for which it does not raise DamagedError."""
        skipped: list[Skipped] = []
        for number in reversed(self.numbers()):
            try:
                manifest = self.manifest(number)
                found = judged(manifest)
            except DamagedError as error:
                skipped.append(Skipped(number, str(error)))
            else:
                self._found(manifest, skipped)
                return found, skipped
        if skipped:
            raise DamagedError(
                f"no checkpoint of {self.job} in {self.place} is intact: "
                + "; ".join(f"{each.number}: {each.why}" for each in skipped[:3]),
                hint="give a savepoint to start from, or restore='none' to start with nothing",
            )
        if self._layout.published in {entry.key for entry in self.blobs.entries(self._layout.claims)}:
            raise self._gone()
        self._found(None, skipped)
        return None, skipped

    def _found(self, manifest: Manifest | None, skipped: list[Skipped]) -> None:
        """Called with the newest intact checkpoint, and those that were passed over for it."""

    def _gone(self) -> GoneError:
        return GoneError(
            f"the checkpoints of {self.job} in {self.place} are gone: there were some, no manifest is left",
            hint="give a savepoint to start from, or restore='none' to start with nothing",
        )

    def _checked(self, manifest: Manifest) -> Manifest:
        problems = self._problems(manifest)
        if problems:
            raise DamagedError("; ".join(f"{each.file}: {each.what}" for each in problems[:3]))
        return manifest

    def _problems(self, manifest: Manifest) -> list[Problem]:
        # The same content under two sizes is two questions.
        files = {f"{self._layout.content(file)} {file.size}": file for _, file in manifest.all_files()}
        found = dict(zip(files, self._each(self._problem, files.values()), strict=True))
        problems: list[Problem] = []
        for path, file in manifest.all_files():
            what = found[f"{self._layout.content(file)} {file.size}"]
            if what is not None:
                problems.append(Problem(path, what))
        return problems

    def _problem(self, file: StoredFile) -> str | None:
        try:
            self._check(file)
        except DamagedError as error:
            return error.message
        return None

    def _check(self, file: StoredFile) -> None:
        key = self._layout.content(file)
        check_stored(file, key, self.blobs.digest(key, file.size))

    def _summary(self, number: int) -> Summary:
        if number not in self._summaries:
            self.manifest(number)
        return self._summaries[number]

    def _summed(self, manifest: Manifest) -> Summary:
        keys = frozenset(self._layout.content(file) for _, file in manifest.all_files())
        return Summary(manifest.kind, manifest.generation, manifest.incarnation, keys)


def jobs_in(blobs: Blobs) -> list[str]:
    """The jobs that have checkpoints, or had some, at a place."""
    return [name for name in blobs.folders("") if is_job(name)]
