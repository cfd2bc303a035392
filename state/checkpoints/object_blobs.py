"""Checkpoints in an object store (S3 and what speaks like it, Google Cloud Storage, Azure, or memory), by obstore.

There is no rename and no lock: content is put under its digest, an entry is made by a conditional put, and the
process with the highest claim may publish. If the answer to a put got lost, the stored content is checked.

Content goes up in one request, which leaves nothing if it is cut. A store takes that up to some GiB; larger content
goes up in parts, which stay in the store, unseen and paid for, if the process dies meanwhile.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from streamflow.errors import ConfigError, DamagedError, StateError
from streamflow.observe.logs import told
from streamflow.state.checkpoints.blobs import BlobEntry, Stored, check_key
from streamflow.state.checkpoints.object_clients import ObjectClients

__all__ = ["ObjectBlobs"]

_LOG: Final = logging.getLogger("streamflow.checkpoints")
_CHUNK: Final = 4 << 20
_IN_MEMORY: Final = 32 << 20
_ONE_PUT: Final = 4 << 30
"""The largest upload in one request; S3 takes 5 GiB."""
_PART: Final = 16 << 20
_AT_ONCE: Final = 4
"""The size of the parts of larger uploads, and the number of parts that are uploaded at once."""


class ObjectBlobs:
    """Blobs below a URL like `s3://bucket/folder`."""

    exclusive = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"{parts.scheme}://{parts.hostname or ''}/… has credentials or options in it",
                hint="give them by the environment variables of the object store",
            )
        self.place = url.rstrip("/")
        self._clients = ObjectClients(self.place, parts.scheme)
        self._told_of_parts = False

    @property
    def awaited(self) -> str | None:
        return self._clients.awaited

    def put(self, folder: str, chunks: Iterable[bytes]) -> Stored:
        import obstore

        digest, size = blake2b(digest_size=32), 0
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            file.seek(0)
            key = check_key(f"{folder}/{digest.hexdigest()}")
            with self._clients.asked("write", key):
                if size <= _ONE_PUT:
                    content = _content(file, size)
                    obstore.put(self._clients.client(size), key, content, use_multipart=False)
                else:
                    self._tell_of_parts()
                    client = self._clients.client(_AT_ONCE * _PART)
                    obstore.put(client, key, file, chunk_size=_PART, max_concurrency=_AT_ONCE)
        if size > _ONE_PUT:
            self._check_size(key, size)
        return Stored(digest.hexdigest(), size)

    def put_file(self, folder: str, path: Path, *, link: bool) -> Stored:
        try:
            with path.open("rb") as file:
                return self.put(folder, iter(lambda: file.read(_CHUNK), b""))
        except OSError as error:
            raise StateError(f"cannot read {path}: {error.strerror}") from error

    def get(self, key: str, limit: int) -> bytes:
        return b"".join(self._chunks(key, limit))

    def digest(self, key: str, limit: int) -> Stored:
        digest, size = blake2b(digest_size=32), 0
        for chunk in self._chunks(key, limit):
            digest.update(chunk)
            size += len(chunk)
        return Stored(digest.hexdigest(), size)

    def fetch(self, key: str, path: Path, limit: int) -> Stored:
        digest, size = blake2b(digest_size=32), 0
        try:
            with path.open("xb") as file:
                path.chmod(0o600)
                for chunk in self._chunks(key, limit):
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error.strerror}") from error
        return Stored(digest.hexdigest(), size)

    def link_out(self, key: str, path: Path) -> bool:
        return False

    def create(self, key: str, data: bytes, reach: Callable[[str], None]) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        refused: StateError | None = None
        try:
            with self._clients.asked("write", check_key(key)):
                try:
                    obstore.put(self._clients.client(len(data)), key, data, mode="create")
                except (AlreadyExistsError, PreconditionError):
                    # The client repeats what got no answer: it may have been made by the first attempt.
                    return self._is(key, data)
        except StateError as error:
            refused = error
        if refused is not None and not self._is(key, data):
            raise refused
        return True

    def entries(self, prefix: str) -> list[BlobEntry]:
        import obstore

        client: Any = obstore  # with pyarrow's types, which are not there
        with self._clients.asked("list", check_key(prefix)):
            found = [
                BlobEntry(each["path"], each["size"], int(each["last_modified"].timestamp() * 1_000_000))
                for page in client.list(self._clients.client(), prefix + "/")
                for each in page
            ]
        return sorted(found, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> list[str]:
        import obstore

        client: Any = obstore
        with self._clients.asked("list", prefix or "it"):
            found = client.list_with_delimiter(self._clients.client(), prefix or None)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    def remove(self, key: str) -> None:
        import obstore

        try:
            with self._clients.asked("remove", check_key(key)):
                obstore.delete(self._clients.client(), key)
        except DamagedError:
            return  # some stores say that it was not there

    def move(self, old: str, new: str) -> None:
        import obstore

        with self._clients.asked("move", check_key(old)):
            obstore.copy(self._clients.client(), old, check_key(new))
        self.remove(old)

    def settle(self) -> None:
        """Does nothing: content is stored once a request is answered."""

    def lock(self, key: str) -> Callable[[], None]:
        check_key(key)
        return _nothing_to_release

    def sweep(self, prefix: str, before: int) -> None:
        """Removes nothing: an interrupted upload leaves nothing; parts are up to the store's own rules."""

    def _chunks(self, key: str, limit: int) -> Iterator[bytes]:
        import obstore

        with self._clients.asked("read", check_key(key)):
            found = obstore.get(self._clients.client(), key)
            if found.meta["size"] > limit:
                raise DamagedError(f"{key} has {found.meta['size']} bytes, {limit} were expected")
            for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    def _is(self, key: str, data: bytes) -> bool:
        """Whether exactly this content is stored there."""
        try:
            return self.get(key, len(data)) == data
        except DamagedError:
            return False

    def _check_size(self, key: str, size: int) -> None:
        """Raises if not all parts of an upload are there."""
        import obstore

        with self._clients.asked("read", key):
            found = obstore.head(self._clients.client(), key)["size"]
        if found != size:
            raise StateError(f"{self.place} stored {found} bytes of the {size} of {key}")

    def _tell_of_parts(self) -> None:
        if not self._told_of_parts:
            self._told_of_parts = True
            rule = "AbortIncompleteMultipartUpload"
            _LOG.warning(
                "files go up in parts, and a killed process leaves them there", extra=told(rule=rule)
            )


def _content(file: IO[bytes], size: int) -> Any:
    """The bytes of a file; of a large one without reading them into memory."""
    return file.read() if size <= _IN_MEMORY else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _nothing_to_release() -> None:
    """Releases nothing: there are no locks in an object store."""
