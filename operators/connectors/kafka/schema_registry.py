"""Schema registries with Confluent's API (Confluent, Karapace, Redpanda, Apicurio): addresses and settings.

A record begins with four bytes, the id of its schema; the registry has the schema itself. The wire format is
Confluent's: a zero byte, the id as a big-endian 32-bit integer, the Avro datum. Schemas are registered under the
subject `<topic>-value` (TopicNameStrategy).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from streamflow.arguments import file_path, flag, instance, text
from streamflow.config import Secret, parse_secret
from streamflow.errors import JobDefinitionError
from streamflow.observe.guard import is_loopback

__all__ = ["AvroSchema", "SchemaRegistry", "address_refused", "checked_registry"]

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
    from streamflow.operators.connectors.kafka.formats.registry_client import RegistryClient

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
