"""A Kafka cluster: its addresses, its security, and the client library to use."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, cast

from streamflow.arguments import instance
from streamflow.distribution import install_hint
from streamflow.errors import ConfigError, JobDefinitionError, cut, represented, unknown_name
from streamflow.observe.guard import is_loopback
from streamflow.observe.logs import told
from streamflow.operators.connectors.kafka.clients.port import UNPACKED_BYTES
from streamflow.operators.connectors.kafka.security import KafkaSecurity

if TYPE_CHECKING:
    from streamflow.operators.connectors.kafka.clients.port import KafkaClient

__all__ = ["Cluster", "checked_client"]

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
            from streamflow.operators.connectors.kafka.clients.confluent.client import ConfluentClient

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
