"""Schema registries with Confluent's API (Confluent, Karapace, Redpanda, Apicurio): settings, and a client.

A record begins with four bytes, the id of its schema; the registry has the schema itself. The wire format is
Confluent's: a zero byte, the id as a big-endian 32-bit integer, the Avro datum. Schemas are registered under the
subject `<topic>-value` (TopicNameStrategy).

A registry is another machine that may be slow, large or hostile: an answer is limited in size and time, redirects
are not followed, and the client connects to the very address that was checked, so that a name that changes its
address in between gains nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from streamflow.arguments import file_path, flag, instance, text
from streamflow.config import Secret, parse_secret
from streamflow.distribution import install_hint
from streamflow.errors import ConfigError, JobDefinitionError, SinkError, SourceError
from streamflow.observe.guard import is_loopback
from streamflow.time.clock import Clock, SystemClock

if TYPE_CHECKING:
    import httpx

__all__ = ["AvroSchema", "RegistryClient", "SchemaRegistry", "address_refused", "checked_registry"]

# Cloud providers' metadata services that are not link-local: AWS over IPv6, Alibaba.
_METADATA: Final = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})


@dataclass(frozen=True, slots=True)
class SchemaRegistry:
    """A schema registry, for `format="avro"`.

    `password` may be `file:PATH`; it is never shown, and not sent over plain http to another machine unless
    `allow_plaintext_password`. `ca_file`: certificates to trust instead of the system's. `allow_private=False`
    refuses addresses of private networks, for programs whose URL comes from outside; link-local addresses and the
    metadata services of clouds are always refused, loopback never. Redirects are not followed. Raises
    JobDefinitionError, ConfigError for a secret that cannot be read.

    >>> SchemaRegistry("https://registry.example", username="job", password="s3cret")
    SchemaRegistry(url='https://registry.example', username='job', password=***, ca_file=None, allow_private=True,
    allow_plaintext_password=False)
    """

    url: str
    username: str | None = None
    password: Secret | str | None = None
    ca_file: str | None = None
    allow_private: bool = True
    allow_plaintext_password: bool = False

    def __post_init__(self) -> None:
        text(self.url, "the registry's URL")
        flag(self.allow_private, "allow_private")
        flag(self.allow_plaintext_password, "allow_plaintext_password")
        if self.username is not None:
            text(self.username, "username")
        if self.ca_file is not None:
            object.__setattr__(self, "ca_file", file_path(self.ca_file, "ca_file"))
        if self.password is not None:
            object.__setattr__(self, "password", parse_secret(self.password, "the registry's password"))
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise JobDefinitionError(
                "the registry's URL cannot be read", hint="write it like https://host:8081"
            ) from error
        if parts.username is not None or parts.password is not None:
            # The URL is not shown: it holds a password.
            object.__setattr__(self, "url", "***")
            raise JobDefinitionError(
                "the registry's URL holds a user or a password", hint="give username= and password="
            )
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            # Query strings often hold keys.
            shown = urlunsplit(parts._replace(query="…" if parts.query else "", fragment=""))
            raise JobDefinitionError(
                f"{shown!r} is no address of a schema registry", hint="write it like https://host:8081"
            )
        if (self.username is None) != (self.password is None):
            raise JobDefinitionError("a registry takes a username with a password", hint="give both, or none")
        if (
            parts.scheme == "http"
            and self.password is not None
            and not self.allow_plaintext_password
            and not is_loopback(host)
        ):
            raise JobDefinitionError(
                f"the password for {self.url!r} would cross the network in clear",
                hint="use https, or give allow_plaintext_password=True",
            )


@dataclass(frozen=True, slots=True, init=False)
class AvroSchema:
    """An Avro schema that producer and consumer agree on, for `format="avro"` without a registry: values are the
    bare datum then. Takes the schema as JSON text or as a dict. Raises JobDefinitionError for anything else.

    >>> AvroSchema('{"type":"record","name":"R","fields":[{"name":"n","type":"long"}]}').definition["name"]
    'R'
    """

    text: str

    def __init__(self, schema: str | Mapping[str, Any]) -> None:
        try:
            given = schema if isinstance(schema, str) else msgspec.json.encode(schema).decode()
            object.__setattr__(self, "text", given)
            held = self.definition
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
            raise JobDefinitionError(f"the Avro schema is not JSON: {error}", hint="give its text") from error
        if not isinstance(held, dict):
            raise JobDefinitionError(
                "the Avro schema is no record", hint='it begins with {"type": "record", …'
            )

    @property
    def definition(self) -> Any:
        """The schema as JSON values."""
        return msgspec.json.decode(self.text)


def checked_registry(registry: object) -> None:
    """Raises JobDefinitionError for a value that gives no Avro schemas."""
    kinds = (SchemaRegistry, AvroSchema, RegistryClient, type(None))
    instance(registry, "registry", *kinds, hint='write registry=SchemaRegistry("http://…"), or AvroSchema(…)')


def address_refused(address: str, *, allow_private: bool) -> str | None:
    """The reason to refuse an IP address; None if it is allowed.

    >>> address_refused("169.254.169.254", allow_private=True), address_refused("127.0.0.1", allow_private=False)
    ('a link-local address', None)
    """
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    if ip.is_loopback:
        return None
    if ip.is_link_local:
        return "a link-local address"
    if ip in _METADATA:
        return "a metadata service"
    if ip.is_multicast or ip.is_unspecified or (ip.is_reserved and isinstance(ip, IPv4Address)):
        return "no address of a server"
    return "a private address (allow_private=False)" if ip.is_private and not allow_private else None


_ANSWER_BYTES: Final = 1 << 20
_STEP_SECONDS: Final = 5.0
_WHOLE_SECONDS: Final = 15.0
_FORGET_UNKNOWN: Final = 30.0
_MOST_UNKNOWN: Final = 1000
_NOT_FOUND: Final = 404
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"

Failure = type[SourceError] | type[SinkError]


class RegistryClient:
    """A registry's schemas by id and the other way round. Blocking, thread-safe; known answers are cached. Raises
    ConfigError if the extra is not installed."""

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
