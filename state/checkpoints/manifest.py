"""The manifest: the list of a checkpoint's files; its appearance alone makes the checkpoint.

A manifest file is a line with the digest of the rest, then JSON. The line says whether the digest was made with a
key: without one it detects accidents, with one tampering as well. The line's form stays as it is in all formats, so
that a program can always tell a newer format from damage. The content of the file is checked against the types
below, sizes and names included, before any of it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from streamflow.core.keys import MAX_PARALLELISM_LIMIT
from streamflow.errors import DamagedError, StateError
from streamflow.state.backends.saved import SavedKind

__all__ = [
    "FORMAT",
    "MAX_MANIFEST_BYTES",
    "Manifest",
    "OperatorEntry",
    "SignatureError",
    "StoredFile",
    "SubtaskEntry",
    "UnsignedError",
    "decode_manifest",
    "encode_manifest",
]

FORMAT: Final = 2
MAX_MANIFEST_BYTES: Final = 64 << 20
"""The largest manifest in bytes: about 400,000 files."""

_MAX_KEY_BYTES: Final = 64
_LINE: Final = re.compile(rb"(blake2b|blake2b-keyed) ([0-9a-f]{64})\n")
_LINE_LIMIT: Final = 96

_NAME: Final = r"\A[a-z0-9][a-z0-9_-]{0,62}\Z"
_COMPONENT: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_FILE: Final = rf"\A{_COMPONENT}(/{_COMPONENT}){{0,7}}\Z"

Name = Annotated[str, Meta(pattern=_NAME)]
FileName = Annotated[str, Meta(pattern=_FILE, max_length=255)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=9_999_999_999)]
Group = Annotated[int, Meta(ge=0, lt=MAX_PARALLELISM_LIMIT)]
Word = Annotated[str, Meta(max_length=200)]


class StoredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a checkpoint: its name there, and its content by length, blake2b-256 digest and generation.

    `immutable`: its users never change it, so that it may be a link to the stored file.
    """

    name: FileName
    size: Count
    digest: Digest
    generation: Number
    immutable: bool = False


class SubtaskEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One subtask's share: its key groups, first and last inclusive, and its files."""

    subtask: Group
    first_group: Group
    last_group: Group
    backend: SavedKind | None
    files: tuple[StoredFile, ...]

    def __post_init__(self) -> None:
        if self.first_group > self.last_group:
            raise ValueError(f"key groups {self.first_group} to {self.last_group}")
        _check_once("file", [file.name for file in self.files])


class OperatorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operator's share; `signature` has the facts that must not change for its state to fit, None if it has
    none."""

    id: Name
    kind: Word
    parallelism: Group
    signature: dict[str, Any] | None
    subtasks: tuple[SubtaskEntry, ...]

    def __post_init__(self) -> None:
        _check_once("subtask", [subtask.subtask for subtask in self.subtasks])


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint. `created` counts microseconds since 1970; `files` are about the job as a whole.

    `parent` is the number of the checkpoint before it, None for the first of a run that began with nothing.
    `finished`: the job has ended, nothing follows. The store fills in `format`, `streamflow`, `job`, `incarnation`,
    `generation` and `created` when it publishes.
    """

    number: Number
    kind: Literal["checkpoint", "savepoint"] = "checkpoint"
    parent: Number | None = None
    mode: Word = ""
    max_parallelism: Annotated[int, Meta(ge=1, le=MAX_PARALLELISM_LIMIT)] = 128
    finished: bool = False
    operators: tuple[OperatorEntry, ...] = ()
    files: tuple[StoredFile, ...] = ()
    format: Literal[1, 2] = FORMAT
    streamflow: Word = ""
    job: Name = "job"
    incarnation: Number = 0
    generation: Number = 0
    created: Count = 0

    def __post_init__(self) -> None:
        _check_once("operator", [operator.id for operator in self.operators])
        _check_once("file", [file.name for file in self.files])

    def all_files(self) -> list[tuple[str, StoredFile]]:
        """Every file with its path in the checkpoint: `operator/subtask/name`, or `name` for a file of the job."""
        found = [(file.name, file) for file in self.files]
        for operator in self.operators:
            for subtask in operator.subtasks:
                found += [(f"{operator.id}/{subtask.subtask}/{file.name}", file) for file in subtask.files]
        return found

    def with_files(self, change: Callable[[StoredFile], StoredFile]) -> Manifest:
        """The same manifest with each file replaced by `change`."""

        def changed(files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
            return tuple(change(file) for file in files)

        operators: list[OperatorEntry] = []
        for operator in self.operators:
            subtasks = tuple(replace(each, files=changed(each.files)) for each in operator.subtasks)
            operators.append(replace(operator, subtasks=subtasks))
        return replace(self, operators=tuple(operators), files=changed(self.files))

    @property
    def size(self) -> int:
        """The total bytes of its files, each content counted once."""
        return sum({(file.generation, file.digest): file.size for _, file in self.all_files()}.values())


class UnsignedError(StateError):
    """A manifest that is not signed although there is a key, or signed although there is none."""


class SignatureError(DamagedError):
    """A signed manifest whose signature does not fit this key: damaged, tampered with, or signed with another key."""


class _Header(msgspec.Struct):
    """The header that all formats share."""

    format: Annotated[int, Meta(ge=1)]
    streamflow: str = "an unknown version"


def encode_manifest(manifest: Manifest, key: bytes | None = None) -> bytes:
    """The manifest as bytes, signed if there is a key of 1 to 64 bytes. Raises StateError for one that could not be
    read again.

    >>> manifest = Manifest(number=7)
    >>> decode_manifest(encode_manifest(manifest)) == manifest
    True
    """
    try:
        body = msgspec.json.encode(manifest)
        msgspec.json.decode(body, type=Manifest)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise StateError(f"checkpoint {manifest.number} cannot be described: {error}") from error
    method = "blake2b" if key is None else "blake2b-keyed"
    data = f"{method} {_digest(body, key)}\n".encode("ascii") + body
    if len(data) > MAX_MANIFEST_BYTES:
        raise StateError(f"checkpoint {manifest.number} has too many files to describe them in one manifest")
    return data


def decode_manifest(data: bytes, key: bytes | None = None) -> Manifest:
    """The manifest in these bytes. Raises DamagedError for other bytes, its subclass SignatureError if the key did
    not sign them, UnsignedError if there is a key and no signature or the other way round, StateError for a format
    newer than `FORMAT`."""
    line = _LINE.match(data[:_LINE_LIMIT])
    if line is None or len(data) > MAX_MANIFEST_BYTES:
        raise DamagedError("it is not a manifest")
    signed, body = line[1] == b"blake2b-keyed", memoryview(data)[line.end() :]
    if signed and key is None:
        raise UnsignedError("it is signed", hint="give the key that it was signed with (checkpoint_key)")
    if key is not None and not signed:
        raise UnsignedError(
            "it is not signed",
            hint="any user who can write there may have made it; without checkpoint_key it can be read",
        )
    if not compare_digest(_digest(body, key), line[2].decode("ascii")):
        if signed:
            raise SignatureError(
                "its signature is not that of this key", hint="another key made it, or it was changed"
            )
        raise DamagedError("its digest does not match")
    try:
        header = msgspec.json.decode(body, type=_Header)
        if header.format > FORMAT:
            raise StateError(
                f"it has format {header.format}, written by streamflow {header.streamflow[:40]!s}; "
                f"this version reads formats up to {FORMAT}",
                hint="use that version of streamflow or a newer one",
            )
        return msgspec.json.decode(body, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(f"its content is not that of a manifest: {error}") from error


def _digest(body: bytes | memoryview, key: bytes | None) -> str:
    if key is not None and not 1 <= len(key) <= _MAX_KEY_BYTES:
        raise StateError(f"a checkpoint key has 1 to {_MAX_KEY_BYTES} bytes, not {len(key)}")
    return blake2b(body, digest_size=32, key=key or b"").hexdigest()


def _check_once(kind: str, names: list[Any]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"a {kind} is there twice")
