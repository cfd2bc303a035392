"""A client of a running job's control server: sends requests and turns answers, or their absence, into words. A watcher
of its status."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from streamflow.config import Settings
from streamflow.errors import ConfigError, StreamflowError
from streamflow.observe.status import JobStatus
from streamflow.observe.why import Wait
from streamflow.time.timestamps import parse_duration

__all__ = ["ControlClient", "WatchedJob", "place_of"]

T = TypeVar("T")

_MAX_ANSWER: Final = 16 << 20
_TOKEN_HINT: Final = "set STREAMFLOW_CONTROL_TOKEN, or give --token-file"


class ControlClient:
    """A client of one job. It follows no redirects and uses no proxy, so that a token goes nowhere else.

    Raises ConfigError for an invalid URL or an unreadable token. `timeout` as a duration like "10m".
    """

    def __init__(self, url: str, *, token_file: str | None = None, timeout: str = "10m") -> None:
        self._secure, self._host, self._port = _split(url)
        self.url = url
        given = {} if token_file is None else {"control_token": f"file:{token_file}"}
        self._token = Settings.resolve(given).control_token
        self._timeout = parse_duration(timeout, what="--timeout", positive=True) / 1e6

    def get(self, route: str) -> dict[str, Any]:
        """The answer to a question. Raises StreamflowError with the job's error, or if none answers."""
        return self._ask("GET", route, None)

    def post(self, route: str, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order. Raises StreamflowError with the job's error, or if none answers."""
        return self._ask("POST", route, json.dumps(order))

    def status(self) -> JobStatus:
        """The job's present status. Raises what `get` does, and StreamflowError for one that cannot be read."""
        return self._read(self.get("/status"), JobStatus, "status")

    def waits(self) -> list[Wait]:
        """The results that wait. Raises what `status` does."""
        return self._read(self.get("/why").get("waits"), list[Wait], "answer")

    def _read(self, told: object, type_: type[T], what: str) -> T:
        try:
            return msgspec.convert(told, type_)
        except msgspec.ValidationError as error:
            raise StreamflowError(
                f"the {what} of the job at {self.url} cannot be read: {error}",
                hint="it may run with another version of streamflow",
            ) from error

    def _ask(self, method: str, route: str, body: str | None) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        connection = self._connect()
        try:
            connection.request(method, route, body, headers)
            response = connection.getresponse()
            status, content = response.status, response.read(_MAX_ANSWER + 1)
        except TimeoutError as error:
            raise StreamflowError(
                f"the job at {self.url} has not answered within {self._timeout:g} s",
                hint="it may still be working on it: try again later, or give a longer --timeout",
            ) from error
        except (OSError, HTTPException, UnicodeError) as error:
            raise StreamflowError(
                f"no job answers at {self.url}: {error}",
                hint="a job run with --control-port prints its URL when it starts",
            ) from error
        finally:
            connection.close()
        return self._understood(status, content)

    def _connect(self) -> HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=context)
        return HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _understood(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content) if len(content) <= _MAX_ANSWER else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or (status != 200 and "error" not in answer):
            raise StreamflowError(
                f"the server at {self.url} is no streamflow job (HTTP status {status})",
                hint="a job run with --control-port prints its URL when it starts",
            )
        told = cast("dict[str, Any]", answer)
        if status == 401:
            raise ConfigError(f"the job at {self.url} does not take the token", hint=_TOKEN_HINT)
        if status != 200:
            raise StreamflowError(f"the job at {self.url} says: {told['error']}", hint=told.get("hint"))
        return told


def place_of(target: str) -> str:
    """The absolute place of a savepoint: the job may run in another folder. Raises ConfigError for an empty one."""
    if not target.strip():
        raise ConfigError(
            "the savepoint's place is empty", hint="give a folder or a URL like s3://bucket/folder"
        )
    return target if "://" in target else str(Path(target).absolute())


def _split(url: str) -> tuple[bool, str, int]:
    """A URL's parts: whether it is https, the host and the port. Passwords in it are not shown."""
    if any(mark in url for mark in "@?#"):
        raise ConfigError("a job's URL has a host and a port, nothing more", hint=_TOKEN_HINT)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ConfigError(
            f"{url!r} is not a job's URL", hint="write it as the job prints it, like http://127.0.0.1:7070"
        )
    secure = parts.scheme == "https"
    return secure, parts.hostname, port or (443 if secure else 80)


class WatchedJob:
    """A watcher of one job that keeps the earlier status for rates.

    Raises ConfigError for an invalid URL or token; `look` raises StreamflowError if no job answers.
    """

    def __init__(self, url: str, *, token_file: str | None, timeout: str) -> None:
        self._client = ControlClient(url, token_file=token_file, timeout=timeout)
        self.now: JobStatus | None = None
        self.before: JobStatus | None = None

    def look(self) -> JobStatus:
        """The present status."""
        status = self._client.status()
        self.before, self.now = self.now, status
        return status
