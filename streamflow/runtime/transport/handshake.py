"""The handshake by which two processes of a run prove to each other that they know its secret. Does no I/O.

    A → B  hello: version, subject, nonce
    B → A  challenge: nonce, HMAC-SHA256(secret, "B" nonces hello)
    A → B  proof: HMAC-SHA256(secret, "A" nonces hello)
    B → A  verdict: nothing, or why not

Each nonce is used once, so that what was said before proves nothing. The secret itself is never sent, and no error
shows it. `subject` says in plain text what the connection is for; nothing is told about it before the proof.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, TypeVar

import msgspec

from streamflow.config import Secret
from streamflow.runtime.transport.port import TransportError

__all__ = ["MOST_GREETING", "NONCE", "Answering", "Opening", "refusal", "verdict"]

MOST_GREETING: Final = 4 << 10
"""The largest message of a handshake in bytes."""
VERSION: Final = 1
"""The version of handshake and frames; both sides must have the same."""
NONCE: Final = 32
"""The bytes of a nonce."""
M = TypeVar("M")


class _Hello(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    subject: str
    nonce: bytes


class _Challenge(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    nonce: bytes
    proof: bytes
    refused: str = ""


class _Verdict(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    refused: str = ""


class Opening:
    """The side that connects. `nonce` is 32 bytes that nobody can foresee."""

    def __init__(self, secret: Secret, subject: str, nonce: bytes) -> None:
        self._secret = secret
        self._nonce = nonce
        self._hello = msgspec.msgpack.encode(_Hello(VERSION, subject, nonce))

    def hello(self) -> bytes:
        """The first message."""
        return self._hello

    def proof(self, challenge: bytes) -> bytes:
        """The second message; raises TransportError if the other side has not proven that it knows the secret."""
        told = _read(challenge, _Challenge)
        if told.refused:
            raise _refused(told.refused)
        if len(told.nonce) != NONCE or not hmac.compare_digest(
            told.proof, _proof(self._secret, b"B", self._nonce, told.nonce, self._hello)
        ):
            raise TransportError(
                "the process that answered does not know the secret of this run",
                hint="another program may listen at that address",
            )
        return _proof(self._secret, b"A", self._nonce, told.nonce, self._hello)

    def welcome(self, verdict: bytes) -> None:
        """Reads the last message; raises TransportError with the reason if the connection is refused."""
        refused = _read(verdict, _Verdict).refused
        if refused:
            raise _refused(refused)


class Answering:
    """The side that is connected to."""

    def __init__(self, secret: Secret, nonce: bytes) -> None:
        self._secret = secret
        self._nonce = nonce
        self._hello = b""
        self._theirs = b""
        self._subject = ""

    def challenge(self, hello: bytes) -> bytes:
        """The answer to the first message; raises TransportError for one of another version."""
        told = _read(hello, _Hello)
        if told.version != VERSION:
            raise TransportError(f"version {told.version} of the protocol, and this process has {VERSION}")
        if len(told.nonce) != NONCE:
            raise TransportError("a greeting came damaged")
        self._hello, self._theirs, self._subject = hello, told.nonce, told.subject
        proof = _proof(self._secret, b"B", self._theirs, self._nonce, self._hello)
        return msgspec.msgpack.encode(_Challenge(self._nonce, proof))

    def subject(self, proof: bytes) -> str:
        """The purpose of the connection; raises TransportError if the other side has not proven that it knows the
        secret."""
        right = _proof(self._secret, b"A", self._theirs, self._nonce, self._hello)
        if not self._hello or not hmac.compare_digest(proof, right):
            raise TransportError("the other side does not know the secret of this run")
        return self._subject


def verdict(refused: str = "") -> bytes:
    """The last message: welcome, or the reason for refusing."""
    return msgspec.msgpack.encode(_Verdict(refused[:1_000]))


def refusal(refused: str) -> bytes:
    """The answer to a first message that is refused."""
    return msgspec.msgpack.encode(_Challenge(b"", b"", refused[:1_000]))


def _proof(secret: Secret, side: bytes, opening: bytes, answering: bytes, hello: bytes) -> bytes:
    message = b"streamflow" + side + opening + answering + hello
    return hmac.digest(secret.reveal().encode(), message, hashlib.sha256().name)


def _read(message: bytes, kind: type[M]) -> M:
    try:
        return msgspec.msgpack.decode(message, type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise TransportError("a message of the handshake came damaged") from error


def _refused(reason: str) -> TransportError:
    return TransportError(f"the other worker refused the connection: {reason}")
