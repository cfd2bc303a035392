"""TLS between workers: both sides show a certificate of the same authority."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from threading import Lock
from typing import Final

from streamflow.errors import ConfigError

__all__ = ["Tls", "TlsClient"]

_PIECE: Final = 256 << 10


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


class TlsClient:
    """The client's end of TLS over bytes that its user carries. One thread may seal while another unseals, which
    sockets of the standard library do not allow."""

    def __init__(self, tls: Tls) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = tls.context(server=False).wrap_bio(self._in, self._out)
        self._lock = Lock()

    def shake(self, came: bytes) -> tuple[bytes, bool]:
        """The next bytes of the handshake to be sent, and whether it is over; `came` are the server's, at first none.
        Raises ssl.SSLError for a server that is none of the authority's."""
        self._in.write(came)
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return self._out.read(), False
        return self._out.read(), True

    def seal(self, data: bytes) -> bytes:
        """The bytes to be sent for `data`, in this order."""
        with self._lock:
            left = memoryview(data)
            while left:
                left = left[self._ssl.write(left) :]
            return self._out.read()

    def unseal(self, came: bytes) -> bytes:
        """The data in the bytes that came; raises ssl.SSLError for damaged ones, and if the server refused the
        client."""
        pieces: list[bytes] = []
        with self._lock:
            self._in.write(came)
            while True:
                try:
                    piece = self._ssl.read(_PIECE)
                except ssl.SSLWantReadError:
                    return b"".join(pieces)
                if not piece:  # the server has closed its side
                    return b"".join(pieces)
                pieces.append(piece)
