"""The clients of one object store: the time limits of calls, and the store's recent silence.

A call has as long to be answered as a store needs on a bad day, an upload also the time of its bytes. It is repeated
within one more such time. Once the store has not answered, the next few calls are made once only and for less time:
so a caller that asks it several times, as at the end of a job, does not wait as long each time.

Variables of the environment about connections (`AWS_PROXY_URL`, `AWS_TIMEOUT`, …) win.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from streamflow.errors import ConfigError, DamagedError, StateError
from streamflow.state.checkpoints.blobs import UnreachableError

if TYPE_CHECKING:
    from obstore.store import MemoryStore, ObjectStore

__all__ = ["ObjectClients", "client_options"]

_PATIENT: Final = 10.0
_DOUBTFUL: Final = 3.0
"""Seconds for an answer: of a store, and of one that has not answered the last time."""
_DOUBTED: Final = 6
"""The number of calls with less time before one has as much as the first."""
_UPLOADED: Final = 2 << 20
"""The bytes that an upload brings forward in a second, at the slowest."""
_RETRIES: Final = 4
_PREFIXES: Final = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_OPTIONS: Final = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type", "http1_only",
    "http2_keep_alive_interval", "http2_keep_alive_timeout", "http2_keep_alive_while_idle", "http2_only",
    "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url",
    "randomize_addresses", "read_timeout", "root_certificate", "timeout", "user_agent",
)  # fmt: skip
_REFUSED: Final = re.compile(r"status code: 4(?!08|29)\d\d|builder error")
"""A pattern of the client's errors if the store has answered, or cannot be asked: asking again is of no use."""
_SECRET: Final = re.compile(
    r"(?i)((?:key|secret|token|sig|signature|credential|password)[\w-]*[\"']?\s*[=:]\s*)[^\s&,;]+"
)
_MEMORY: Final[dict[str, MemoryStore]] = {}
"""`memory://name` is the same store wherever it is opened in a process."""


class ObjectClients:
    """The clients of the store at `url`; several threads may use them."""

    def __init__(self, url: str, scheme: str) -> None:
        self._url = url
        self._options = client_options(scheme, os.environ)
        self._variables = f"variables {_PREFIXES[scheme]}…" if scheme in _PREFIXES else "its variables"
        self._doubted = 0
        self._asked: dict[object, str] = {}
        self._made: dict[tuple[float, int], ObjectStore] = {}
        self._only = scheme == "memory"
        if self._only:
            self._made[0, 0] = _MEMORY.setdefault(url, _memory())
        else:
            self.client()  # or what cannot be a store would be found out later

    @property
    def awaited(self) -> str | None:
        """The request to the store that is not answered yet."""
        return next(iter(self._asked.copy().values()), None)

    def client(self, upload: int = 0) -> ObjectStore:
        """The client for a call that sends so many bytes."""
        if self._only:
            return self._made[0, 0]
        answer, retries = (_PATIENT, _RETRIES) if not self._doubted else (_DOUBTFUL, 0)
        sending = upload // _UPLOADED
        # Few clients, since each has connections of its own.
        seconds = answer if not sending else answer + (1 << sending.bit_length())
        made = self._made.get((seconds, retries))
        if made is None:
            # Without bytes to send, reading may go on for as long as more comes.
            patience = timedelta(seconds=seconds)
            whole = patience if sending else timedelta(days=1)
            options = {"read_timeout": patience, "timeout": whole, **self._options}
            retry = {"max_retries": retries, "retry_timeout": patience}
            made = self._made[seconds, retries] = _opened(self._url, options, retry)
        return made

    @contextmanager
    def asked(self, action: str, what: str) -> Generator[None]:
        """A context of a request to the store, whose errors become StateErrors."""
        from obstore.exceptions import BaseError, GenericError

        token = object()
        self._asked[token] = f"an answer of {self._url}: {action} {what}"
        try:
            yield
        except FileNotFoundError as error:
            self._doubted = 0
            raise DamagedError(f"{what} is missing in {self._url}") from error
        except (BaseError, OSError, ValueError) as error:
            told = f"cannot {action} {what} in {self._url}: {_shown(error)}"
            if isinstance(error, GenericError) and not _REFUSED.search(str(error)):
                self._doubted = self._doubted - 1 if self._doubted else _DOUBTED
                raise UnreachableError(
                    told, hint=f"check its address and the network ({self._variables})"
                ) from None
            raise StateError(
                told, hint=f"check the bucket's name, and what the credentials allow ({self._variables})"
            ) from None
        else:
            self._doubted = 0
        finally:
            del self._asked[token]


def client_options(scheme: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The options of the environment about connections: given options would replace all of them.

    >>> client_options("s3", {"AWS_PROXY_URL": "http://proxy:3128", "AWS_REGION": "eu-west-1", "AZURE_TIMEOUT": "5s"})
    {'proxy_url': 'http://proxy:3128'}
    """
    prefix = _PREFIXES.get(scheme, "")
    given = {name: environment.get(f"{prefix}{name.upper()}") for name in _OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def _memory() -> MemoryStore:
    from obstore.store import MemoryStore

    return MemoryStore()


def _opened(url: str, options: Mapping[str, Any], retry: Mapping[str, Any]) -> ObjectStore:
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    opening: Any = from_url
    try:
        store: ObjectStore = opening(url, client_options=options, retry_config=retry)
    except (BaseError, ValueError) as error:
        raise ConfigError(f"{url} cannot be used for checkpoints: {_shown(error)}") from None
    return store


def _shown(error: Exception) -> str:
    """The first line of the client's error, without anything that looks like a credential."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _SECRET.sub(r"\1***", line)[:300]
