"""A Kafka cluster: its addresses, its security (TLS, SASL, secrets that are never shown), the client library to use.

One description of the security serves every client library: an `ssl.SSLContext` and keyword arguments for aiokafka, a
dict of properties for librdkafka. Files are read, and the settings checked against each other, when the description is
made, so that a mistake shows up before anything runs.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from streamflow.arguments import file_path, flag, instance, text
from streamflow.config import Secret, parse_secret
from streamflow.distribution import install_hint
from streamflow.errors import ConfigError, JobDefinitionError, cut, represented, unknown_name
from streamflow.observe.guard import is_loopback
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.port import UNPACKED_BYTES

if TYPE_CHECKING:
    from streamflow.operators.connectors.kafka.clients.port import KafkaClient

__all__ = ["Cluster", "KafkaSecurity", "checked_client"]

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

PASSWORD_VARIABLE: Final = "STREAMFLOW_KAFKA_PASSWORD"

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_FILES: Final = ("ca_file", "certificate_file", "key_file")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """Transport and login for a Kafka cluster; the names are those of Kafka's own properties.

    `protocol`: SSL means TLS, 1.2 at least. `mechanism`, `username` and `password` belong to the SASL_… protocols;
    the password is the text itself or `file:PATH`, by default the environment variable STREAMFLOW_KAFKA_PASSWORD.
    `ca_file`: trusted certificates as PEM (None: the system's); `certificate_file` and `key_file` (PEM, with
    `key_password` if it is encrypted): the job's own certificate, for brokers that ask. A password in clear text
    (PLAIN without TLS) is sent to other machines only with `allow_plaintext_password`. Raises JobDefinitionError for
    settings that do not go together, ConfigError for files that cannot be read.

    >>> KafkaSecurity(protocol="SASL_SSL", mechanism="SCRAM-SHA-512", username="ada", password="s3cret").password
    ***
    """

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: Secret | str | None = None
    ca_file: str | os.PathLike[str] | None = None
    certificate_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    key_password: Secret | str | None = None
    check_hostname: bool = True
    allow_plaintext_password: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("Kafka protocol", self.protocol, _PROTOCOLS),
            ("SASL mechanism", self.mechanism or "", ("", *_MECHANISMS)),
        ):
            given: object = value
            if not isinstance(given, str) or given not in known:
                message, hint = unknown_name(what, cut(given), filter(None, known))
                raise JobDefinitionError(message, hint=hint)
        flag(self.check_hostname, "check_hostname")
        flag(self.allow_plaintext_password, "allow_plaintext_password")
        if self.username is not None:
            text(self.username, "username")
        for name in _FILES:
            if getattr(self, name) is not None:
                file_path(getattr(self, name), name)
        password = self.password
        if password is None and self.sasl:
            password = os.environ.get(PASSWORD_VARIABLE) or None
        if password is not None:
            object.__setattr__(self, "password", parse_secret(password, "the Kafka password"))
        if self.key_password is not None:
            secret = parse_secret(self.key_password, "the password of the Kafka key")
            object.__setattr__(self, "key_password", secret)
        self._check_login()
        self._check_files()

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        """Whether there is a login."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for Python's own TLS; None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file, _reveal(self.key_password) or "")
        return context

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's clients; with secrets in clear, not to be kept."""
        logging.getLogger("aiokafka.conn").addFilter(_quiet)
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.tls:
            options["ssl_context"] = self.ssl_context()
        if self.sasl:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = _reveal(self.password)
        return options

    def librdkafka(self) -> dict[str, Any]:
        """Properties for librdkafka; with secrets in clear, not to be kept.

        Its OpenSSL 3 speaks nothing older than TLS 1.2 at its default security level.
        """
        properties: dict[str, Any] = {"security.protocol": self.protocol}
        if self.tls:
            properties["ssl.endpoint.identification.algorithm"] = "https" if self.check_hostname else "none"
            if self.ca_file is not None:
                properties["ssl.ca.location"] = os.fspath(self.ca_file)
            if self.certificate_file is not None:
                properties["ssl.certificate.location"] = os.fspath(self.certificate_file)
                properties["ssl.key.location"] = os.fspath(self.key_file or self.certificate_file)
            if self.key_password is not None:
                properties["ssl.key.password"] = _reveal(self.key_password)
        if self.sasl:
            properties["sasl.mechanism"] = self.mechanism
            properties["sasl.username"] = self.username
            properties["sasl.password"] = _reveal(self.password)
        return properties

    def _check_login(self) -> None:
        if not self.sasl:
            if self.mechanism or self.username or self.password:
                raise JobDefinitionError(
                    f"a Kafka login is given, but protocol {self.protocol} has none",
                    hint='use protocol="SASL_SSL"',
                )
            return
        for name, value in (("mechanism", self.mechanism), ("username", self.username)):
            if not value:
                raise JobDefinitionError(f"protocol {self.protocol} needs a {name}", hint=f"give {name}=")
        if self.password is None:
            raise JobDefinitionError(
                f"protocol {self.protocol} needs a password",
                hint=f"give password= (text or file:PATH), or set {PASSWORD_VARIABLE}",
            )

    def _check_files(self) -> None:
        given = [(name, getattr(self, name)) for name in _FILES if getattr(self, name) is not None]
        if given and not self.tls:
            raise JobDefinitionError(
                f"{given[0][0]} is given, but protocol {self.protocol} is not encrypted",
                hint='use protocol="SSL" or "SASL_SSL"',
            )
        if self.key_file is not None and self.certificate_file is None:
            raise JobDefinitionError("key_file is given without certificate_file", hint="give both")
        try:
            for name, path in given:
                if not Path(path).is_file():
                    raise ConfigError(f"{name}: there is no file {os.fspath(path)}", hint="check the path")
            self.ssl_context()
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"the Kafka certificates cannot be used: {error}",
                hint="ca_file, certificate_file and key_file are PEM files; an encrypted key needs key_password",
            ) from error


def _quiet(record: logging.LogRecord) -> bool:
    """Whether to pass a log record of aiokafka: at its lowest level it logs each request in full, passwords and
    records too."""
    return record.levelno > logging.DEBUG


def _reveal(secret: Secret | str | None) -> str | None:
    return secret.reveal() if isinstance(secret, Secret) else secret


_CLIENTS: Final = ("aiokafka", "confluent")
_BEHIND: Final = re.compile(r"[?#].*", re.DOTALL)
_LOG = logging.getLogger("streamflow.kafka")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's addresses (`host:port`, several separated by commas or as a list) and its security.

    Raises JobDefinitionError for invalid addresses or ones with a user name, and for a password that would travel in
    clear text to another machine (SASL_PLAINTEXT with PLAIN) without `allow_plaintext_password`.

    >>> Cluster("kafka-1:9092, kafka-2:9092").addresses
    (('kafka-1', 9092), ('kafka-2', 9092))
    """

    bootstrap_servers: str | Sequence[str]
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    def __post_init__(self) -> None:
        instance(
            self.security, "security", KafkaSecurity, hint='write security=KafkaSecurity(protocol="SSL", …)'
        )
        given = _listed(self.bootstrap_servers)
        # A user name in addresses, and the password beside it, is never shown.
        object.__setattr__(self, "bootstrap_servers", "***")
        joined = ",".join(_joined(*_address(each)) for each in given)
        object.__setattr__(self, "bootstrap_servers", joined)
        security = self.security
        if security.protocol != "SASL_PLAINTEXT" or security.mechanism != "PLAIN":
            return
        if not self.loopback and not security.allow_plaintext_password:
            raise JobDefinitionError(
                f"the password would travel to {self.bootstrap_servers} in clear text",
                hint='use protocol="SASL_SSL", or a SCRAM mechanism, or allow_plaintext_password=True',
            )

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each bootstrap server."""
        return tuple(_address(each) for each in _listed(self.bootstrap_servers))

    @property
    def loopback(self) -> bool:
        """Whether all addresses are this machine."""
        return all(is_loopback(host) or host.endswith(".localhost") for host, _ in self.addresses)

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's clients; with secrets in clear, not to be kept."""
        return {"bootstrap_servers": self.bootstrap_servers, **self.security.aiokafka()}

    def client(
        self, kind: str | KafkaClient = "aiokafka", unpacked_bytes: int = UNPACKED_BYTES
    ) -> KafkaClient:
        """The client library of this name, or the given client. `unpacked_bytes` is the largest size of an unpacked
        batch of records.

        Raises JobDefinitionError for an unknown name, ConfigError if the library is not installed.
        """
        checked_client(kind)
        if not isinstance(kind, str):
            return kind
        _installed("aiokafka")
        if self.security.protocol == "PLAINTEXT" and not self.loopback:
            _LOG.warning("connections are not encrypted", extra=told(brokers=self.bootstrap_servers))
        if kind == "confluent":
            _installed("confluent_kafka", "confluent")
            from streamflow.operators.connectors.kafka.clients.confluent import ConfluentClient

            return ConfluentClient(self, unpacked_bytes)
        from streamflow.operators.connectors.kafka.clients.aiokafka.client import AiokafkaClient

        return AiokafkaClient(self, unpacked_bytes)


def checked_client(kind: object) -> None:
    """Raises JobDefinitionError for a value that is neither the name of a client library nor a client."""
    if isinstance(kind, str) and kind not in _CLIENTS:
        message, hint = unknown_name("Kafka client", kind, _CLIENTS)
        raise JobDefinitionError(message, hint=hint)
    if not isinstance(kind, str) and not all(
        hasattr(kind, name) for name in ("reader", "metadata", "writer")
    ):
        raise JobDefinitionError(f"client is {cut(represented(kind))}", hint=f"one of: {', '.join(_CLIENTS)}")


def _installed(module: str, extra: str | None = None) -> None:
    if find_spec(module) is None:
        raise ConfigError(
            f"the Kafka client {module} is not installed",
            hint=install_hint(extra),
        )


def _listed(given: object) -> list[str]:
    names: list[object] = [given] if isinstance(given, str) else []
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        names = list(cast("Sequence[object]", given))
    found = [each for name in names if isinstance(name, str) for each in name.split(",")]
    if not found or not all(isinstance(name, str) for name in names):
        raise JobDefinitionError(
            f"bootstrap_servers is of the type {type(given).__name__}",
            hint='write "host:port", several separated by commas or as a list',
        )
    return found


def _address(text: str) -> tuple[str, int]:
    if "@" in text:
        raise JobDefinitionError(
            f"the address of a Kafka server holds a user: ***@{text.rpartition('@')[2].strip()}",
            hint="write host:port, and give the login as security=KafkaSecurity(username=…, password=…)",
        )
    host, colon, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536 or "/" in host:
        # Query strings often hold passwords.
        raise JobDefinitionError(
            f"{_BEHIND.sub('…', text.strip())!r} is not the address of a Kafka server",
            hint="write host:port, several separated by commas",
        )
    return host, int(port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
