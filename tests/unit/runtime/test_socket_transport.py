"""Peers that do not belong to the run, or do not keep to the protocol, at a transport over sockets."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamflow.config import Secret
from streamflow.core.elements import Barrier
from streamflow.errors import ConfigError
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.transport.handshake import NONCE, VERSION, Opening
from streamflow.runtime.transport.port import ChannelName, TransportError
from streamflow.runtime.transport.sockets import SocketTransport
from streamflow.runtime.transport.tls import Tls

HIDDEN = "nobody may read this"
NAME = ChannelName(attempt=1, edge=0, upper=0, lower=1)
SUBJECT = "channel 1 0 0 1"


class Peer:
    """A program of somebody else's that speaks to a transport."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, transport: SocketTransport) -> Peer:
        return cls(*await asyncio.open_unix_connection(transport.address.removeprefix("unix:")))

    def say(self, body: bytes, kind: int = 0, length: int | None = None) -> None:
        self.writer.write(struct.pack("<IB", len(body) if length is None else length, kind) + body)

    async def hear(self) -> bytes:
        length, _ = struct.unpack("<IB", await self.reader.readexactly(5))
        return await self.reader.readexactly(length)

    async def left(self) -> bytes:
        """The rest of what is said, up to the end of the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.close()

    async def greet(self, secret: str = HIDDEN, subject: str = SUBJECT, nonce: bytes = b"n" * NONCE) -> str:
        """Goes through the handshake as far as the other side lets it, and returns the reason for the refusal."""
        opening = Opening(Secret(secret), subject, nonce)
        self.say(opening.hello())
        self.say(opening.proof(await self.hear()))
        return msgspec.msgpack.decode(await self.hear())[0]


def with_one(
    tmp_path: Path, scenario: Callable[[SocketTransport, Inbox, list[str]], Awaitable[None]]
) -> None:
    """Runs a scenario with a transport that expects one channel; the list has the reasons for which it was lost."""

    async def run() -> None:
        transport = SocketTransport(Secret(HIDDEN), max_frame=100_000, patience=0.2)
        await transport.listen(f"unix:{tmp_path}/run/worker")
        channel, why = Channel(), list[str]()
        transport.lost = lambda name, reason: why.append(reason)
        transport.expect(NAME, channel)
        try:
            async with asyncio.timeout(30):
                await scenario(transport, Inbox([channel]), why)
        finally:
            await transport.close()

    asyncio.run(run())


async def works_still(transport: SocketTransport, inbox: Inbox) -> None:
    sender = transport.sender(transport.address, NAME)
    await sender.open()
    await sender.send(Barrier(1))
    while (found := inbox.receive_nowait()) is None:
        await inbox.news()
    assert found[1] == Barrier(1)


def test_a_peer_with_another_secret_is_refused_and_told_nothing(tmp_path, caplog) -> None:
    async def scenario(transport, inbox, why):
        peer = await Peer.of(transport)
        peer.say(Opening(Secret("guessed"), SUBJECT, b"n" * NONCE).hello())
        challenge = await peer.hear()
        with pytest.raises(TransportError, match="does not know the secret"):
            Opening(Secret("guessed"), SUBJECT, b"n" * NONCE).proof(challenge)
        peer.say(b"p" * 32)
        refused = await peer.left()
        assert b"does not know the secret" in refused
        assert b"expects" not in refused
        assert inbox.receive_nowait() is None
        await works_still(transport, inbox)

    with caplog.at_level(logging.DEBUG, "streamflow"):
        with_one(tmp_path, scenario)
    assert HIDDEN not in caplog.text
    assert "connection refused" in caplog.text


def test_a_worker_speaks_to_none_that_does_not_know_the_secret(tmp_path) -> None:
    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        hello = msgspec.msgpack.decode(await peer.hear())
        peer.say(msgspec.msgpack.encode([hello[2], b"p" * 32, ""]))
        heard.append(await peer.left())

    heard: list[bytes] = []

    async def scenario(transport, inbox, why):
        path = f"{tmp_path}/impostor"
        server = await asyncio.start_unix_server(impostor, path)
        with pytest.raises(TransportError) as raised:
            await transport.sender(f"unix:{path}", NAME).open()
        assert "does not know the secret" in str(raised.value)
        assert HIDDEN not in str(raised.value)
        server.close()
        await server.wait_closed()
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with_one(tmp_path, scenario)
    assert heard == [b""]


def test_a_worker_does_not_wait_for_ever_for_an_answer(tmp_path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Peer(reader, writer).left()

    async def scenario(transport, inbox, why):
        path = f"{tmp_path}/silent"
        server = await asyncio.start_unix_server(silent, path)
        with pytest.raises(TransportError, match="no answer in time"):
            await transport.sender(f"unix:{path}", NAME).open()
        server.close()
        await server.wait_closed()

    with_one(tmp_path, scenario)


def test_a_handshake_cannot_be_replayed(tmp_path) -> None:
    async def scenario(transport, inbox, why):
        transport.expect(ChannelName(1, 0, 0, 2), Channel())
        first, second = await Peer.of(transport), await Peer.of(transport)
        opening = Opening(Secret(HIDDEN), "channel 1 0 0 2", b"n" * NONCE)
        first.say(opening.hello())
        second.say(opening.hello())
        proof = opening.proof(await first.hear())
        await second.hear()
        second.say(proof)
        assert b"does not know the secret" in await second.left()
        first.writer.close()

    with_one(tmp_path, scenario)


def test_a_peer_of_an_old_attempt_is_fenced(tmp_path) -> None:
    async def scenario(transport, inbox, why):
        transport.forget(1)
        peer = await Peer.of(transport)
        assert "nobody expects attempt 1" in await peer.greet()
        await peer.left()
        assert transport.fenced == 1

    with_one(tmp_path, scenario)


@pytest.mark.parametrize("subject", ["control", "channel 1 0 0", "channel 1 0 0 -1", "channel 1 0 0 ²"])
def test_a_connection_for_something_else_is_refused(tmp_path, subject) -> None:
    async def scenario(transport, inbox, why):
        peer = await Peer.of(transport)
        assert "only channels" in await peer.greet(subject=subject)
        await peer.left()

    with_one(tmp_path, scenario)


def test_a_peer_of_another_version_is_told_so(tmp_path) -> None:
    async def scenario(transport, inbox, why):
        peer = await Peer.of(transport)
        peer.say(msgspec.msgpack.encode([VERSION + 1, SUBJECT, b"n" * NONCE]))
        assert b"version 2 of the protocol" in await peer.left()

    with_one(tmp_path, scenario)


GARBAGE = [
    struct.pack("<IB", 5_000, 0),  # more than a greeting may have
    struct.pack("<IB", 2**32 - 1, 0),
    struct.pack("<IB", 3, 0) + b"\xc1\xc1\xc1",
    struct.pack("<IB", 3, 7) + b"abc",
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_place_of_a_greeting_ends_the_connection(tmp_path, garbage) -> None:
    async def scenario(transport, inbox, why):
        peer = await Peer.of(transport)
        peer.writer.write(garbage)
        await peer.left()
        await works_still(transport, inbox)

    with_one(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "kind", "length", "reason"),
    [
        (b"", 2, 100_001, "a frame of 100001 bytes came, more than 100000"),
        (b"", 99, None, "kind 99"),
        (b"", 2, None, "before its schema"),
        (b"abc", 1, None, "damaged"),
        (b"abc", 3, None, "damaged"),
        (b"\x93\xc0\xc0\xc0", 5, None, "damaged"),
        (b"\xc1", 5, None, "damaged"),
        (b"abc", 8, None, "damaged"),
        (b"", 0, None, "kind 0"),
    ],
)
def test_garbage_behind_the_handshake_breaks_the_connection(tmp_path, body, kind, length, reason) -> None:
    async def scenario(transport, inbox, why):
        peer = await Peer.of(transport)
        assert await peer.greet() == ""
        peer.say(body, kind, length)
        await peer.left()
        assert len(why) == 1
        assert reason in why[0]
        assert inbox.receive_nowait() is None

    with_one(tmp_path, scenario)


def test_a_peer_that_says_nothing_is_left_after_a_while(tmp_path) -> None:
    async def scenario(transport, inbox, why):
        silent, slow = await Peer.of(transport), await Peer.of(transport)
        slow.writer.write(b"\x10\0\0")
        assert await silent.left() == b""
        assert await slow.left() == b""
        await works_still(transport, inbox)

    with_one(tmp_path, scenario)


def test_silent_peers_wait_for_one_another_and_let_others_in_at_last(tmp_path) -> None:
    async def scenario(transport, inbox, why):
        silent = [await Peer.of(transport) for _ in range(100)]
        # It is served once the first 64 have had their time, and then the others theirs.
        await works_still(transport, inbox)
        for peer in silent:
            await peer.left()

    with_one(tmp_path, scenario)


def test_a_peer_that_stops_in_the_middle_of_a_frame_is_lost(tmp_path) -> None:
    async def scenario(transport, inbox, why):
        peer = await Peer.of(transport)
        assert await peer.greet() == ""
        peer.say(b"half of it", 5, 90_000)
        await peer.writer.drain()
        peer.writer.close()
        while not why:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert why == ["the other side closed it"]

    with_one(tmp_path, scenario)


def test_the_folder_of_sockets_is_for_its_owner_alone(tmp_path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)

    async def run() -> None:
        transport = SocketTransport(Secret(HIDDEN), max_frame=1_000)
        with pytest.raises(TransportError, match="nothing listens"):
            _ = transport.address
        with pytest.raises(TransportError, match="others may enter"):
            await transport.listen(f"unix:{tmp_path}/open/worker")
        with pytest.raises(TransportError, match="more than 103 bytes"):
            await transport.listen(f"unix:{tmp_path}/{'x' * 100}")
        await transport.listen(f"unix:{tmp_path}/new/worker")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        await transport.close()
        assert list((tmp_path / "new").iterdir()) == []

    asyncio.run(run())


def test_the_first_free_port_of_a_range_is_taken() -> None:
    async def run() -> None:
        first, second = (SocketTransport(Secret(HIDDEN), max_frame=1_000) for _ in range(2))
        await first.listen("tcp:127.0.0.1:0")
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(TransportError, match="no listening"):
            await second.listen(f"tcp:127.0.0.1:{port}")
        await second.listen(f"tcp:127.0.0.1:{port}-{min(port + 50, 65_535)}")
        assert port < int(second.address.rpartition(":")[2]) <= port + 50
        await first.close()
        await second.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "text", ["", "unix:relative", "tcp:host", "tcp::1", "tcp:h:70000", "tcp:h:9-8", "udp:h:1"]
)
def test_another_text_is_no_address(text) -> None:
    async def run() -> None:
        with pytest.raises(TransportError, match="no address"):
            await SocketTransport(Secret(HIDDEN), max_frame=1_000).listen(text)

    asyncio.run(run())


def certified(folder: Path, name: str, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None):
    """A certificate of an authority, or one of its own, and the files with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signs = (subject, key) if authority is None else (authority[0].subject, authority[1])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    certificate = builder.sign(signs, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key


def test_tls_takes_certificates_of_the_authority_only(tmp_path) -> None:
    certified(tmp_path, "worker", certified(tmp_path, "ca", None))
    certified(tmp_path, "stranger", certified(tmp_path, "other", None))

    def tls(name: str) -> Tls:
        return Tls(f"{tmp_path}/{name}.crt", f"{tmp_path}/{name}.key", f"{tmp_path}/ca.crt")

    async def run() -> None:
        made = [
            SocketTransport(Secret(HIDDEN), max_frame=1_000, tls=tls, patience=5.0)
            for tls in (tls("worker"), tls("stranger"), None)
        ]
        ours, stranger, plain = made
        channel = Channel()
        for transport in made:
            await transport.listen("tcp:127.0.0.1:0")
        ours.expect(NAME, channel)
        for other in (stranger, plain):
            with pytest.raises(TransportError):
                await other.sender(ours.address, NAME).open()
        await works_still(ours, Inbox([channel]))
        for transport in made:
            await transport.close()

    asyncio.run(run())
    with pytest.raises(ConfigError, match="TLS"):
        SocketTransport(Secret(HIDDEN), max_frame=1_000, tls=tls("missing"))


def test_nothing_shows_the_secret() -> None:
    transport = SocketTransport(Secret(HIDDEN), max_frame=1_000)
    opening = Opening(Secret(HIDDEN), SUBJECT, b"n" * NONCE)
    assert HIDDEN not in repr([vars(transport), vars(opening)])
    assert HIDDEN.encode() not in opening.hello()
