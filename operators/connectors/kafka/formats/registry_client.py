"""A client of schema registries: schemas by id, ids of schemas. Blocking, thread-safe; known answers are cached.

A registry is another machine that may be slow, large or hostile: an answer is limited in size and time, redirects
are not followed, and the client connects to the very address that was checked, so that a name that changes its
address in between gains nothing.
"""

from __future__ import annotations

import socket
import ssl
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from streamflow.config import Secret
from streamflow.distribution import install_hint
from streamflow.errors import ConfigError, SinkError, SourceError
from streamflow.operators.connectors.kafka.schema_registry import SchemaRegistry, address_refused
from streamflow.time.clock import Clock, SystemClock

if TYPE_CHECKING:
    import httpx

__all__ = ["RegistryClient"]

_ANSWER_BYTES: Final = 1 << 20
_STEP_SECONDS: Final = 5.0
_WHOLE_SECONDS: Final = 15.0
_FORGET_UNKNOWN: Final = 30.0
_MOST_UNKNOWN: Final = 1000
_NOT_FOUND: Final = 404
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"

Failure = type[SourceError] | type[SinkError]


class RegistryClient:
    """A registry's schemas by id and the other way round. Raises ConfigError if the extra is not installed."""

    def __init__(self, registry: SchemaRegistry, clock: Clock | None = None) -> None:
        if find_spec("httpx") is None:
            raise ConfigError("a schema registry needs httpx", hint=install_hint("avro"))
        self._registry = registry
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._schemas: dict[int, Any] = {}
        self._unknown: dict[int, float] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def schema(self, id: int) -> Any:
        """The Avro schema of that id as JSON values; None if the registry has none.

        Raises SourceError if the registry does not answer, or has a schema that is not Avro.
        """
        with self._lock:
            if id in self._schemas:
                return self._schemas[id]
            now = self._clock.monotonic()
            if now - self._unknown.get(id, float("-inf")) < _FORGET_UNKNOWN:
                return None
            status, answer = self._ask("GET", f"/schemas/ids/{id}", None, SourceError)
            if status == _NOT_FOUND:
                # Kept for a while: records of garbage must not become as many requests.
                if len(self._unknown) >= _MOST_UNKNOWN:
                    self._unknown.clear()
                self._unknown[id] = now
                return None
            self._schemas[id] = self._definition(id, answer)
            return self._schemas[id]

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema (JSON text) under a subject, registered if it is new.

        Raises SinkError if the registry refuses it, or does not answer.
        """
        with self._lock:
            known = self._ids.get((subject, schema))
            if known is not None:
                return known
            path = f"/subjects/{quote(subject, safe='')}/versions"
            status, answer = self._ask("POST", path, {"schema": schema}, SinkError)
            id = answer.get("id")
            if status == _NOT_FOUND or not isinstance(id, int) or not 0 <= id < 1 << 32:
                raise self._failed(SinkError, "has answered with something else than an id", None)
            self._ids[subject, schema] = id
            return id

    def _definition(self, id: int, answer: dict[str, Any]) -> Any:
        kind = answer.get("schemaType", "AVRO")
        text = answer.get("schema")
        if kind != "AVRO" or not isinstance(text, str):
            raise self._failed(SourceError, f"has no Avro schema under id {id}, but {kind}", None)
        if answer.get("references"):
            raise self._failed(
                SourceError, f"has schema {id} in parts (references), which is not supported", None
            )
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            # A plain name: "string".
            return text

    def _ask(self, method: str, path: str, body: Any, failure: Failure) -> tuple[int, dict[str, Any]]:
        """The status (success or 404) and the answer of a request."""
        import httpx

        parts = urlsplit(self._registry.url)
        headers = {"Accept": _CONTENT_TYPE, "Accept-Encoding": "identity", "Host": parts.netloc}
        content = None
        if body is not None:
            headers["Content-Type"] = _CONTENT_TYPE
            content = msgspec.json.encode(body)
        last: Exception | None = None
        try:
            with httpx.Client(
                verify=self._verify(failure), timeout=_STEP_SECONDS, trust_env=False, auth=self._auth()
            ) as client:
                for address in self._addresses(failure):
                    url = httpx.URL(self._registry.url.rstrip("/") + path).copy_with(host=address)
                    request = client.build_request(
                        method,
                        url,
                        headers=headers,
                        content=content,
                        extensions={"sni_hostname": parts.hostname},
                    )
                    try:
                        return self._answer(client, request, failure)
                    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                        last = error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            last = error
        raise self._failed(failure, f"cannot be reached: {type(last).__name__} {last}", "is it running?")

    def _answer(
        self, client: httpx.Client, request: httpx.Request, failure: Failure
    ) -> tuple[int, dict[str, Any]]:
        deadline = self._clock.monotonic() + _WHOLE_SECONDS
        response = client.send(request, stream=True)
        try:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    raise self._failed(failure, f"has answered with more than {_ANSWER_BYTES} bytes", None)
                if self._clock.monotonic() > deadline:
                    raise self._failed(failure, f"has taken more than {_WHOLE_SECONDS:.0f} s", None)
        finally:
            response.close()
        if response.is_success or response.status_code == _NOT_FOUND:
            try:
                return response.status_code, msgspec.json.decode(bytes(body), type=dict[str, Any])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                if response.status_code == _NOT_FOUND:
                    return _NOT_FOUND, {}
                raise self._failed(failure, "has answered with something else than JSON", None) from error
        raise self._refused(failure, response.status_code, bytes(body))

    def _refused(self, failure: Failure, status: int, body: bytes) -> SourceError | SinkError:
        hints = {
            401: "check username= and password=",
            403: "the user may not do this",
            409: "the columns' types have changed in a way that the subject's compatibility rule forbids",
            422: "the registry does not take this schema",
        }
        try:
            answer = msgspec.json.decode(body)
            reason = str(answer["message"])[:200]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, IndexError):
            reason = ""
        redirect = "redirects are not followed: give the address it leads to" if 300 <= status < 400 else None
        return self._failed(failure, f"answers {status} {reason}".rstrip(), hints.get(status, redirect))

    def _addresses(self, failure: Failure) -> list[str]:
        parts = urlsplit(self._registry.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise self._failed(failure, f"cannot be found: {error}", "check its name") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            why = address_refused(address, allow_private=self._registry.allow_private)
            if why is not None:
                raise self._failed(failure, f"is at {address}, {why}: refused", None)
        return addresses

    def _verify(self, failure: Failure) -> ssl.SSLContext | bool:
        if not self._registry.url.startswith("https"):
            return False  # nothing to verify, and nothing to load
        try:
            context = ssl.create_default_context(cafile=self._registry.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise self._failed(failure, f"cannot be verified: {error}", "check ca_file=") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _auth(self) -> tuple[str, str] | None:
        password = self._registry.password
        if self._registry.username is None or not isinstance(password, Secret):
            return None
        return self._registry.username, password.reveal()

    def _failed(self, failure: Failure, what: str, hint: str | None) -> SourceError | SinkError:
        return failure(f"the schema registry {self._registry.url} {what}", hint=hint)
