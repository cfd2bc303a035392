"""Sealed output in a checkpoint: small output in the job's own file, large output in files beside it.

Bytes of some size within a committable are a file each; the rest of the committables, with the places of those bytes
in them, is listed in files of some megabytes. Neither is bounded, except by the number of files.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, NamedTuple

from streamflow.core.serde import pack
from streamflow.errors import DamagedError, RecordError, StateError, Where
from streamflow.operators.contract.sink import Committable
from streamflow.runtime.checkpoints.snapshots import JOB
from streamflow.runtime.checkpoints.stored_content import ELSEWHERE, JobContent, content_of
from streamflow.runtime.control.epochs import Sealed
from streamflow.state.checkpoints.content import FileReader
from streamflow.state.checkpoints.manifest import Manifest

__all__ = ["SEALED", "SealedFiles", "job_of", "nbytes", "sealed_of"]

SEALED: Final = "sealed/"
"""The folder of sealed output in files of its own."""
_LARGE: Final = 64 << 10
"""The size in bytes from which on bytes are a file of their own."""
_LISTED: Final = 4 << 20
"""The approximate largest size of a list of committables, in bytes."""

Place = Sequence[str | int]
"""The place of bytes in a committable: keys and indices, from outside to inside."""


class _Entry(NamedTuple):
    """The entry of one committable in a list: the rest of it, and the places of its bytes."""

    sink: str
    rest: dict[str, Any]
    places: list[list[str | int]]


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """Sealed output in stored form: `listed` goes into the job's file; None if all of it is in `files`, which have a
    name and content each."""

    listed: list[list[Any]] | None
    files: Sequence[tuple[str, bytes]]

    @classmethod
    def of(cls, sealed: Sealed) -> SealedFiles:
        """The stored form of sealed output. Raises StateError for a committable that cannot be stored."""
        files: list[tuple[str, bytes]] = []
        lists: list[list[bytes]] = [[]]
        size = 0
        for sink, committable in sealed:
            large: list[tuple[Place, bytes]] = []
            rest = _without_large(committable, (), large)
            files += [(f"{SEALED}{len(files) + at}", data) for at, (_, data) in enumerate(large)]
            entry = _packed(sink, [sink, rest, [list(place) for place, _ in large]])
            if size + len(entry) > _LISTED and lists[-1]:
                lists.append([])
                size = 0
            lists[-1].append(entry)
            size += len(entry)
        if not files and len(lists) == 1:
            return cls([[sink, dict(committable)] for sink, committable in sealed], ())
        packed = [pack(each, bounded=False) for each in lists]
        return cls(None, [*files, *((f"{SEALED}list-{at}", data) for at, data in enumerate(packed))])


def job_of(store: FileReader, manifest: Manifest) -> JobContent:
    """The checkpoint's file about the job as a whole. Raises StateError if it cannot be read."""
    file = next((file for file in manifest.files if file.name == JOB), None)
    if file is None:
        raise DamagedError(f"checkpoint {manifest.number} says nothing of the job as a whole", hint=ELSEWHERE)
    return content_of(store.read(file), JobContent, JOB)


def sealed_of(
    store: FileReader, manifest: Manifest, job: JobContent, *, whole: bool = True
) -> list[tuple[str, Committable]]:
    """The output of a checkpoint, by sink. Without `whole` the sizes of large bytes stand in for them. Raises
    StateError if it cannot be read."""
    files = {file.name: file for file in manifest.files if file.name.startswith(SEALED)}
    sealed: list[tuple[str, Committable]] = list(job.get("sealed", ()))
    large = 0
    for at in count():
        listed = files.pop(f"{SEALED}list-{at}", None)
        if listed is None:
            break
        for packed in content_of(store.read(listed), list[bytes], listed.name):
            entry = content_of(packed, _Entry, listed.name)
            for place in entry.places:
                file = files.pop(f"{SEALED}{large}", None)
                if file is None:
                    raise DamagedError(
                        f"{SEALED}{large} is not there, which {listed.name} needs", hint=ELSEWHERE
                    )
                _put(entry.rest, place, store.read(file) if whole else f"{file.size} bytes", listed.name)
                large += 1
            sealed.append((entry.sink, entry.rest))
    if files:
        raise DamagedError(f"no list has a place for {min(files)}", hint=ELSEWHERE)
    return sealed


def nbytes(sealed: Sealed) -> int:
    """The estimated memory of sealed output in bytes: its bytes and texts."""
    return sum(_nbytes(committable) for _, committable in sealed)


def _without_large(value: Any, place: tuple[str | int, ...], large: list[tuple[Place, bytes]]) -> Any:
    """The value without its large bytes, which are added to `large`."""
    if isinstance(value, bytes) and len(value) >= _LARGE:
        large.append((place, value))
        return None
    if isinstance(value, Mapping):
        entries: Mapping[Any, Any] = value
        return {key: _without_large(each, (*place, key), large) for key, each in entries.items()}
    if isinstance(value, list):
        items: list[Any] = value
        return [_without_large(each, (*place, at), large) for at, each in enumerate(items)]
    return value


def _put(committable: Any, place: Place, data: bytes | str, name: str) -> None:
    try:
        for step in place[:-1]:
            committable = committable[step]
        committable[place[-1]] = data
    except (LookupError, TypeError) as error:
        raise DamagedError(
            f"{name} puts bytes at {list(place)}, where there is no place", hint=ELSEWHERE
        ) from error


def _packed(sink: str, entry: list[Any]) -> bytes:
    try:
        return pack(entry, bounded=False)
    except RecordError as error:
        raise StateError(
            f"its sealed output cannot be stored: {error.message}",
            where=Where(operator=sink),
            hint=error.hint,
        ) from error


def _nbytes(value: Any) -> int:
    if isinstance(value, (bytes, str)):
        return len(value)
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        entries: Mapping[Any, Any] = value
        inner = entries.values()
    elif isinstance(value, list):
        items: list[Any] = value
        inner = items
    total = 0
    for each in inner:
        total += _nbytes(each)
    return total
