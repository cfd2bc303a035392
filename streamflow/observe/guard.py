"""Access to a job's HTTP servers, decided from a request's headers alone, before anything else looks at it.

A page in a user's browser can send requests to 127.0.0.1 too, under its own site's name (cross-site request forgery)
or after its name has been pointed there (DNS rebinding). So requests that a page of another site makes are refused by
their Origin and Sec-Fetch-Site headers, and without a token the Host header must name this machine, at any port: a
forwarded port has another number. With a token the name does not matter: no page knows the token, and a proxy may
have any name. A link from elsewhere may lead to a page of the server: following it shows the page to its user only.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from streamflow.errors import ConfigError

__all__ = ["MIN_TOKEN", "Refusal", "RequestGuard", "is_loopback"]

MIN_TOKEN: Final = 16
"""The smallest number of characters of a token: shorter ones could be guessed."""

_LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_ONCE: Final = (b"host", b"origin", b"authorization", b"content-type", b"content-length")
_FETCH: Final = (b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
_OWN_SITE: Final = ("same-origin", "none")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP status and the message for a refused request."""

    status: int
    message: str


def is_loopback(address: str) -> bool:
    """Whether only programs on this machine reach the address; of names, only `localhost` counts as such.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


class RequestGuard:
    """Admits requests or says why not. Raises ConfigError for an address that needs a token and has none; `what` is
    the server, and its settings' prefix.

    >>> guard = RequestGuard("127.0.0.1", None)
    >>> guard.refusal("GET", [(b"host", b"127.0.0.1:7070")]) is None
    True
    >>> guard.refusal("GET", [(b"host", b"evil.example:7070")])
    Refusal(status=403, message='the Host header does not name this machine')
    """

    def __init__(self, address: str, token: str | None, *, what: str = "control") -> None:
        if token is None and not is_loopback(address):
            raise ConfigError(
                f"the {what} server would listen on {address} without a token",
                hint=f"set STREAMFLOW_{what.upper()}_TOKEN, or listen on 127.0.0.1",
            )
        if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
            raise ConfigError(
                f"the {what} token cannot be used",
                hint=f"take at least {MIN_TOKEN} printable ASCII characters, like: openssl rand -hex 32",
            )
        self._token = None if token is None else token.encode()
        named = (f"[{address}]" if ":" in address else address).lower()
        self._names = {*_LOCAL_NAMES, named}

    def refusal(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """The reason to refuse a request; None to admit it. Header names are in lower case."""
        given: dict[bytes, str] = {}
        for name, value in headers:
            if name in _ONCE or name in _FETCH:
                if name in given:
                    return Refusal(400, f"two {name.decode()} headers")
                given[name] = value.decode("latin-1")
        return self._foreign(method, given) or self._unknown(given) or _unfit(method, given)

    def _foreign(self, method: str, given: dict[bytes, str]) -> Refusal | None:
        host = given.get(b"host", "").lower()
        name, colon, port = host.rpartition(":")
        if not (colon and port.isdecimal()):
            name = host
        if self._token is None and name not in self._names:
            return Refusal(403, "the Host header does not name this machine")
        site, origin = given.get(b"sec-fetch-site"), given.get(b"origin")
        if site is not None:
            # A page cannot write these headers. Behind a proxy the Origin may have another name than the Host.
            own = site in _OWN_SITE or (origin is None and _followed_link(method, given))
        else:
            own = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
        return None if own else Refusal(403, "requests from pages of other sites are refused")

    def _unknown(self, given: dict[bytes, str]) -> Refusal | None:
        if self._token is None:
            return None
        scheme, _, token = given.get(b"authorization", "").partition(" ")
        # All of it is compared, wherever the first difference lies: the time it takes tells nothing.
        right = hmac.compare_digest(token.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not right:
            return Refusal(401, "a token is needed: Authorization: Bearer …")
        return None


def _followed_link(method: str, given: dict[bytes, str]) -> bool:
    """Whether a browser opens a page in a tab of its own: no other page can read it, or click in it."""
    kind = (given.get(b"sec-fetch-mode"), given.get(b"sec-fetch-dest"))
    return method in ("GET", "HEAD") and kind == ("navigate", "document")


def _unfit(method: str, given: dict[bytes, str]) -> Refusal | None:
    """The refusal of a body that another site's form could send: text or form data; JSON it cannot send unasked."""
    content = given.get(b"content-type", "").partition(";")[0].strip().lower()
    if method not in ("GET", "HEAD") and content != "application/json":
        return Refusal(415, "send Content-Type: application/json")
    return None
