"""Acknowledgements over TCP: what is taken for a peer that is gone, and that real sockets are told by it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamflow.runtime.transport.acknowledgements import Acknowledgements

ROOT = Path(__file__).resolve().parents[3]
SILENCE = 10.0
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


class Told:
    """A socket as the system tells of it: tries without an answer, of data and of probes, and the last answer."""

    def __init__(self) -> None:
        self.retransmits = self.probes = 0
        self.answered = 0.0
        self.now = 0.0

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        since = round((self.now - self.answered) * 1_000)
        info = bytes([1, 0, self.retransmits, self.probes]) + bytes(52) + since.to_bytes(4, sys.byteorder)
        return info[:length]

    def looks(self, watch: Acknowledgements, until: float, *, answered: bool) -> list[float]:
        """The times up to then, every 2.5 s, at which acknowledgements are missing."""
        found: list[float] = []
        while self.now < until:
            self.now += 2.5
            if answered:
                self.answered = self.now - 0.1
            if watch.missing(self.now):
                found.append(self.now)
        return found


@LINUX
def test_a_peer_to_which_nothing_is_sent_is_not_missed() -> None:
    told = Told()
    assert not told.looks(Acknowledgements(told, SILENCE), 1_000.0, answered=False)


@LINUX
def test_a_receiver_that_reads_nothing_but_answers_probes_is_not_missed() -> None:
    told = Told()
    told.probes = 1
    assert not told.looks(Acknowledgements(told, SILENCE), 1_000.0, answered=True)


@LINUX
@pytest.mark.parametrize("what", ["retransmits", "probes"])
def test_a_peer_that_was_idle_has_its_time_from_the_first_try_on(what: str) -> None:
    told = Told()
    watch = Acknowledgements(told, SILENCE)
    assert not told.looks(watch, 100.0, answered=False)
    setattr(told, what, 1)
    assert told.looks(watch, 113.0, answered=False) == [112.5, 115.0]


@LINUX
def test_an_answer_gives_a_peer_its_time_again() -> None:
    told = Told()
    watch = Acknowledgements(told, SILENCE)
    told.retransmits = 3
    assert not told.looks(watch, 10.0, answered=False)
    assert not told.looks(watch, 12.5, answered=True)
    assert not told.looks(watch, 20.0, answered=False)


PROGRAM = """
import asyncio, subprocess
from streamflow.api.running import run_on_loop
from streamflow.config import Secret
from streamflow.core.elements import Barrier
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.transport.port import ChannelName, TransportError
from streamflow.runtime.transport.sockets import SocketTransport

async def cut_off():
    here, there = (SocketTransport(Secret("s" * 64), max_frame=100_000, silence=0.6) for _ in range(2))
    for transport in (here, there):
        await transport.listen("tcp:127.0.0.1:0")
    name, channel, lost = ChannelName(1, 0, 0, 1), Channel(), asyncio.Event()
    there.expect(name, channel)
    here.lost = lambda name, why: (print(why), lost.set())
    sender = here.sender(there.address, name)
    await sender.open()
    await sender.send(Barrier(1))
    inbox = Inbox([channel])
    while inbox.receive_nowait() is None:
        await inbox.news()
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    await sender.send(Barrier(2))
    await lost.wait()
    try:
        await sender.send(Barrier(3))
    except TransportError as error:
        print(error.message)

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
run_on_loop(cut_off())
"""


def _alone() -> list[str] | None:
    """The beginning of a command for a network of its own; None if there is none here."""
    command = ["unshare", "-rn"]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return None
    return (
        command
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        else None
    )


def test_a_connection_that_is_cut_is_broken_off_after_the_silence() -> None:
    alone = _alone()
    if alone is None:
        pytest.skip("no network namespaces for this user")
    command: list[Any] = [*alone, sys.executable, "-P", "-c", PROGRAM]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    first, second = ended.stdout.splitlines()
    assert first == "nothing that was sent is acknowledged for 0.6 s"
    assert second.endswith(first), ended.stderr
