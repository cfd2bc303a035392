"""A proxy between a client and its object store that fails on demand: it holds up traffic, or hangs up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Between"]


class Between:
    """Carries bytes between its own `url` and a server; several connections at once."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname, parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.cut = 0
        """So many connections are closed when a request comes with `where` in it."""
        self.where = b""
        self.limit: int | None = None
        """So many bytes of requests are carried, and nothing after them."""
        self.held = threading.Event()
        """Something has been held up."""
        self.requests = 0
        """How many there were; several chunks of one body count once."""
        self._open = threading.Event()
        self._open.set()
        self._ended = False

    def mute(self) -> None:
        """From now on nothing is answered."""
        self.held.clear()
        self._open.clear()

    def speak(self) -> None:
        """From now on everything is carried again, also what was held up."""
        self.limit = None
        self._open.set()

    @contextmanager
    def running(self) -> Generator[Between]:
        """It carries meanwhile."""
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended = True
            self.speak()
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:  # type: ignore[arg-type]
            back = threading.Thread(target=self._carry, args=(server, client, False), daemon=True)
            back.start()
            self._carry(client, server, True)
            back.join()

    def _carry(self, source: socket.socket, target: socket.socket, request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if request:
                    self.requests += data.split(b" ", 1)[0] in (b"GET", b"PUT", b"POST", b"DELETE", b"HEAD")
                    if self.cut and self.where in data:
                        self.cut -= 1
                        break
                    if self.limit is not None:
                        self.limit -= len(data)
                        if self.limit < 0:
                            self._open.clear()
                if not self._open.is_set():
                    self.held.set()
                    self._open.wait()
                if self._ended:
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
