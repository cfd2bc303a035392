"""Security of a Kafka cluster: TLS, SASL, and secrets that are never shown.

One description serves every client library: an `ssl.SSLContext` and keyword arguments for aiokafka, a dict of
properties for librdkafka. Files are read, and the settings checked against each other, when the description is made,
so that a mistake shows up before anything runs.
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from streamflow.arguments import file_path, flag, text
from streamflow.config import Secret, parse_secret
from streamflow.errors import ConfigError, JobDefinitionError, cut, unknown_name

__all__ = ["KafkaSecurity", "Mechanism", "Protocol"]

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
