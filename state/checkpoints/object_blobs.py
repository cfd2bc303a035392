"""Checkpoints in an object store (S3 and what speaks like it, Google Cloud Storage, Azure, or memory), by obstore.

There is no rename and no lock: content is put under its digest, an entry is made by a conditional put, and whoever
made the highest claim may publish. Where the answer to a put got lost, what is there is looked at. What the store's
client says in an error is shown without what looks like a credential.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from streamflow.errors import ConfigError, DamagedError, StateError
from streamflow.state.checkpoints.blobs import BlobEntry, Stored, check_key

if TYPE_CHECKING:
    from obstore.store import MemoryStore, ObjectStore, RetryConfig

__all__ = ["ObjectBlobs"]

_CHUNK: Final = 4 << 20
_IN_MEMORY: Final = 32 << 20
_SECRET: Final = re.compile(
    r"(?i)((?:key|secret|token|sig|signature|credential|password)[\w-]*[\"']?\s*[=:]\s*)[^\s&,;]+"
)
_MEMORY: Final[dict[str, MemoryStore]] = {}
"""`memory://name` is the same store wherever it is opened in a process."""


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
        self._store: ObjectStore = _open(self.place, parts.scheme)

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
            with self._told("write", key):
                obstore.put(self._store, key, file if size > _CHUNK else file.read())
        if size > _CHUNK:
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
            with self._told("write", check_key(key)):
                try:
                    obstore.put(self._store, key, data, mode="create")
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
        with self._told("list", check_key(prefix)):
            found = [
                BlobEntry(each["path"], each["size"], int(each["last_modified"].timestamp() * 1_000_000))
                for page in client.list(self._store, prefix + "/")
                for each in page
            ]
        return sorted(found, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> list[str]:
        import obstore

        client: Any = obstore
        with self._told("list", prefix or "it"):
            found = client.list_with_delimiter(self._store, prefix or None)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    def remove(self, key: str) -> None:
        import obstore

        try:
            with self._told("remove", check_key(key)):
                obstore.delete(self._store, key)
        except DamagedError:
            return  # some stores say that it was not there

    def move(self, old: str, new: str) -> None:
        import obstore

        with self._told("move", check_key(old)):
            obstore.copy(self._store, old, check_key(new))
        self.remove(old)

    def settle(self) -> None:
        """What was answered is stored."""

    def lock(self, key: str) -> Callable[[], None]:
        check_key(key)
        return _nothing_to_release

    def sweep(self, prefix: str, before: int) -> None:
        """Interrupted uploads are not seen; the store's own rules remove them."""

    def _chunks(self, key: str, limit: int) -> Iterator[bytes]:
        import obstore

        with self._told("read", check_key(key)):
            found = obstore.get(self._store, key)
            if found.meta["size"] > limit:
                raise DamagedError(f"{key} has {found.meta['size']} bytes, {limit} were expected")
            for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    def _is(self, key: str, data: bytes) -> bool:
        """Whether exactly this is stored there."""
        try:
            return self.get(key, len(data)) == data
        except DamagedError:
            return False

    def _check_size(self, key: str, size: int) -> None:
        """Whether all parts of an upload are there."""
        import obstore

        with self._told("read", key):
            found = obstore.head(self._store, key)["size"]
        if found != size:
            raise StateError(f"{self.place} stored {found} bytes of the {size} of {key}")

    @contextmanager
    def _told(self, action: str, what: str) -> Generator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise DamagedError(f"{what} is missing in {self.place}") from error
        except (BaseError, OSError, ValueError) as error:
            raise StateError(f"cannot {action} {what} in {self.place}: {_shown(error)}") from None


def _open(url: str, scheme: str) -> ObjectStore:
    from obstore.exceptions import BaseError
    from obstore.store import MemoryStore, from_url

    if scheme == "memory":
        return _MEMORY.setdefault(url, MemoryStore())
    # No client options: they would take the place of all that the environment says about the connection.
    retries: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
    try:
        store: ObjectStore = from_url(url, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise ConfigError(f"{url} cannot be used for checkpoints: {_shown(error)}") from None
    return store


def _shown(error: Exception) -> str:
    """The first line of what the client says, without what looks like a credential."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _SECRET.sub(r"\1***", line)[:300]


def _nothing_to_release() -> None:
    """There are no locks in an object store."""
