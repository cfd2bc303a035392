"""The diagnosis of a Kafka cluster that cannot be reached: reasons that a client library only logs, in words that a
user can act on.

It tries a connection to each address, through TLS and login, with the cluster's own settings; it needs no library
but aiokafka, so the answer is the same for every client. A final reason is one that waiting does not change: a
refused login, a certificate that is not trusted, TLS on one side only.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any, Final

from streamflow.errors import SourceError
from streamflow.operators.connectors.kafka.clients.port import RefusedLookupError
from streamflow.operators.connectors.kafka.cluster import Cluster

__all__ = ["Trouble", "diagnose", "explain"]

_SECONDS: Final = 5.0
_HOST_MISMATCH: Final = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""
_LOGIN: Final = ("SaslAuthenticationFailed", "AuthenticationFailedError")
_NO_LOGIN: Final = "IllegalSaslStateError"
_NO_MECHANISM: Final = ("UnsupportedSaslMechanismError", "AuthenticationMethodNotSupported")


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason, a hint, and whether trying again is of no use."""

    message: str
    hint: str
    final: bool

    def error(self) -> SourceError:
        """The reason as an error to raise."""
        kind = RefusedLookupError if self.final else SourceError
        return kind(self.message, hint=self.hint)


async def diagnose(cluster: Cluster, *, seconds: float = _SECONDS) -> Trouble | None:
    """The reason why no address answers, after `seconds` for each; None if one of them answers. A final reason goes
    before others."""
    first: Trouble | None = None
    for host, port in cluster.addresses:
        error = await _attempt(cluster, host, port, seconds)
        if error is None:
            return None
        trouble = error if isinstance(error, Trouble) else explain(cluster, error)
        if not trouble.final and not isinstance(error, ConnectionRefusedError):
            one_sided = _tls_refused if cluster.security.tls else _tls_expected
            trouble = await one_sided(cluster, host, port, seconds) or trouble
        if first is None or (trouble.final and not first.final):
            first = trouble
    return first


def explain(cluster: Cluster, error: object) -> Trouble:
    """The reason behind an exception from a connection attempt.

    >>> explain(Cluster("localhost:9092"), ConnectionRefusedError(111, "refused")).message
    'Kafka at localhost:9092 cannot be reached: nothing listens there'
    """
    where = f"Kafka at {cluster.bootstrap_servers}"
    security = cluster.security
    names = {each.__name__ for each in type(error).__mro__}
    if _NO_LOGIN in names:
        return Trouble(
            f"{where} asks for no login: the port is that of a listener without SASL",
            f'use the port of its SASL listener, or protocol="{"SSL" if security.tls else "PLAINTEXT"}"',
            final=True,
        )
    if names.intersection(_LOGIN):
        return Trouble(
            f"{where} refuses the login of {security.username!r} with {security.mechanism}",
            "check username=, password= and mechanism= in KafkaSecurity",
            final=True,
        )
    if names.intersection(_NO_MECHANISM):
        return Trouble(
            f"{where} does not take the login mechanism {security.mechanism}",
            "see sasl.enabled.mechanisms of the broker's listener",
            final=True,
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _HOST_MISMATCH:
            return Trouble(
                f"the certificate of {where} is for another host: {error.verify_message}",
                "use the host's name as the certificate has it; check_hostname=False gives up this protection",
                final=True,
            )
        return Trouble(
            f"the certificate of {where} is not trusted: {error.verify_message}",
            "give ca_file=, the certificate of the authority that signed the broker's",
            final=True,
        )
    if isinstance(error, ssl.SSLError):
        return Trouble(
            f"no TLS with {where}: {getattr(error, 'reason', None) or error}",
            "check that the port speaks TLS, and whether it asks for a certificate (certificate_file=, key_file=)",
            final=True,
        )
    if isinstance(error, ConnectionRefusedError):
        return Trouble(
            f"{where} cannot be reached: nothing listens there",
            "start the broker, or check bootstrap_servers=",
            final=False,
        )
    return Trouble(
        f"{where} cannot be reached: {error or type(error).__name__}",
        "check that a broker runs there, bootstrap_servers= and security=",
        final=False,
    )


async def _attempt(cluster: Cluster, host: str, port: int, seconds: float) -> Exception | Trouble | None:
    from aiokafka.conn import create_conn  # pyright: ignore[reportUnknownVariableType] — its parameters have no types
    from aiokafka.protocol.metadata import MetadataRequest

    try:
        async with asyncio.timeout(seconds):
            connection: Any = await create_conn(
                host,
                port,
                client_id="streamflow",
                request_timeout_ms=round(seconds * 1000),
                **cluster.security.aiokafka(),
            )
    except Exception as error:  # noqa: BLE001 — whatever it is, it is the reason
        return error
    try:
        # Before a login a broker answers which requests it knows, and hangs up at any other.
        async with asyncio.timeout(seconds):
            await connection.send(MetadataRequest([]))
    except Exception as error:  # noqa: BLE001 — whatever it is, it is the reason
        if cluster.security.sasl:
            return error
        return Trouble(
            f"Kafka at {host}:{port} asks for a login",
            'use KafkaSecurity(protocol="SASL_SSL", mechanism=…, username=…, password=…)',
            final=True,
        )
    finally:
        connection.close()
    return None


async def _tls_refused(cluster: Cluster, host: str, port: int, seconds: float) -> Trouble | None:
    """Whether the other side breaks off TLS, and says why, or does not speak it."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=cluster.security.ssl_context(), server_hostname=host
            )
            try:
                # With TLS 1.3 a missing client certificate is noticed only after the handshake.
                await reader.read(1)
            finally:
                writer.transport.abort()
    except ssl.SSLError as error:
        return explain(cluster, error)
    except TimeoutError:
        return None
    except OSError:
        clear = Cluster(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        if isinstance(await _attempt(clear, host, port, seconds), Exception):
            return None
        return Trouble(
            f"Kafka at {host}:{port} does not speak TLS",
            'use the port of its TLS listener, or protocol="PLAINTEXT" or "SASL_PLAINTEXT"',
            final=True,
        )
    return None


async def _tls_expected(_cluster: Cluster, host: str, port: int, seconds: float) -> Trouble | None:
    """Whether a port that does not understand clear text speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: only whether there is TLS at all is asked
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return None
    writer.transport.abort()
    return Trouble(
        f"Kafka at {host}:{port} speaks TLS only",
        'use KafkaSecurity(protocol="SSL") or "SASL_SSL"',
        final=True,
    )
