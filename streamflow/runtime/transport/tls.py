"""TLS between workers: both sides show a certificate of the same authority."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from streamflow.errors import ConfigError

__all__ = ["Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of a certificate, its key and the authority's certificate, in PEM. Names of hosts are not compared: the
    handshake of the run proves who the other side is."""

    cert: str
    key: str
    ca: str

    def context(self, *, server: bool) -> ssl.SSLContext:
        """The context of one side; raises ConfigError for files that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.cert, self.key)
            context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the files for TLS between workers cannot be used: {error}",
                hint="give paths of a certificate, its key and the authority's certificate, in PEM",
            ) from error
        return context
