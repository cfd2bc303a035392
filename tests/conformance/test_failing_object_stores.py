"""Object stores that cut, do not answer, or lose their client: what is left behind, how long it takes, what is said."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import streamflow as sf
from streamflow.disk import LocalDisk
from streamflow.errors import StateError
from streamflow.runners import local
from streamflow.state.checkpoints import object_clients
from streamflow.state.checkpoints.blobs import Blobs, UnreachableError, open_blobs
from tests.conformance.failing_store import Between
from tests.conformance.s3_server import BUCKET, s3_server

PLACES = count(1)


@pytest.fixture(scope="module")
def s3() -> Iterator[Mapping[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture
def between(s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """The way to the store, by which clients go that are opened from now on."""
    with Between(s3["AWS_ENDPOINT"]).running() as way:
        for name, value in {**s3, "AWS_ENDPOINT": way.url}.items():
            monkeypatch.setenv(name, value)
        yield way


def falls_silent(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing is answered; until now clients were patient, so that a slow machine is no failing store."""
    between.mute()
    monkeypatch.setattr(object_clients, "_PATIENT", 0.5)
    monkeypatch.setattr(object_clients, "_DOUBTFUL", 0.5)


@pytest.fixture
def place() -> str:
    return f"s3://{BUCKET}/failing-{next(PLACES)}"


def opened(place: str) -> Blobs:
    return open_blobs(place, LocalDisk())


def test_a_process_that_is_killed_while_it_uploads_leaves_nothing(between: Between, place: str) -> None:
    between.limit = 6 << 20
    upload = (
        "from streamflow.disk import LocalDisk; from streamflow.state.checkpoints.blobs import open_blobs; "
        f"open_blobs({place!r}, LocalDisk()).put('blobs', [bytes(4 << 20)] * 12)"
    )
    with subprocess.Popen([sys.executable, "-c", upload]) as process:
        assert between.held.wait(60)
        process.kill()
    between.speak()
    listed = urlopen(f"{between.url}/{BUCKET}?uploads", timeout=10).read()
    assert b"ListMultipartUploadsResult" in listed
    assert b"<Upload>" not in listed
    assert opened(place).entries("blobs") == []


@pytest.mark.parametrize("size", [0, 5_000_000, 34_000_000])
def test_content_of_any_size_goes_up_and_comes_back(
    between: Between, place: str, size: int, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1_000) * (size // 1_000 + 1))
    os.truncate(tmp_path / "file", size)
    blobs = opened(place)
    stored = blobs.put_file("blobs", tmp_path / "file", link=False)
    assert stored.size == size
    assert blobs.fetch(f"blobs/{stored.digest}", tmp_path / "again", size) == stored
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("call", ["put", "create", "get"])
def test_a_store_that_does_not_answer_is_given_up_soon_and_sooner_the_next_time(
    between: Between, place: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = opened(place)
    calls = {
        "put": lambda: blobs.put("blobs", [b"content"]),
        "create": lambda: blobs.create("manifests/1", b"content", lambda step: None),
        "get": lambda: blobs.get("manifests/0", 100),
    }
    assert blobs.entries("blobs") == []
    falls_silent(between, monkeypatch)
    with pytest.raises(UnreachableError, match=rf"cannot .* in {place}"):
        calls[call]()
    before = between.requests
    with pytest.raises(UnreachableError):
        blobs.entries("blobs")
    assert between.requests <= before + 1, "asked once, after it had not answered"
    assert blobs.awaited is None
    monkeypatch.setattr(object_clients, "_DOUBTFUL", 10.0)
    between.speak()
    assert any(answered(blobs) for _ in range(10))


def answered(blobs: Blobs) -> bool:
    try:
        return blobs.entries("other") == []
    except UnreachableError:
        return False


def test_a_call_that_is_not_answered_is_told(between: Between, place: str) -> None:
    blobs = opened(place)
    between.mute()

    async def whole() -> None:
        asking = asyncio.ensure_future(asyncio.to_thread(blobs.entries, "blobs"))
        await asyncio.to_thread(between.held.wait)
        assert blobs.awaited == f"an answer of {place}: list blobs"
        between.speak()
        assert await asking == []
        assert blobs.awaited is None

    asyncio.run(whole())


# Whole jobs.


def job(last: int, *, ends: bool = True) -> tuple[sf.Job, Any]:
    """Sums the numbers below `last`; then it is at its end, or waits for more."""

    async def rows(start: int) -> AsyncIterator[dict[str, int]]:
        for n in range(start, last):
            yield {"k": n % 3, "n": n}
        if not ends:
            await asyncio.Event().wait()

    made = sf.Job("failing")
    read = made.read(sf.source(rows, schema={"k": sf.Int64, "n": sf.Int64}, bounded=ends)).named("numbers")
    return made, read.key_by("k").aggregate(sum=sf.sum("n")).named("sums").collect()


STILL = "the job is still stopping"
SETTINGS: Any = {"mode": "streaming", "checkpoint_interval": "50ms", "restart_delay": "1ms"}


async def first_half(place: str) -> None:
    handle = await job(100, ends=False)[0].start(checkpoint_dir=place, **SETTINGS)
    while handle.status().records_read < 100:  # noqa: ASYNC110 — nothing tells
        await asyncio.sleep(0.005)
    await handle.stop()


@pytest.mark.parametrize(
    ("where", "cut"), [("claims", 1), ("claims", 5), ("manifests", 1), ("manifests", 5), ("blobs", 4)]
)
def test_a_store_that_cuts_at_the_first_start_is_asked_again(
    between: Between, place: str, where: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_clients, "_RETRIES", 0)
    asyncio.run(first_half(place))
    between.cut, between.where = cut, where.encode()
    made, out = job(150)
    result = made.run(checkpoint_dir=place, **SETTINGS)
    assert between.cut == 0
    assert result.restarts >= 1
    assert any("restarted after" in note and "cannot" in note for note in result.notes)
    last = {row["k"]: row["sum"] for row in out.rows() if row["change"] != "update_before"}
    assert last == {k: sum(range(k, 150, 3)) for k in range(3)}


def test_without_restarts_the_first_start_fails(between: Between, place: str) -> None:
    between.cut = 100
    with pytest.raises(UnreachableError, match="cannot list failing/claims") as raised:
        job(1)[0].run(checkpoint_dir=place, restart="none", **SETTINGS)
    assert raised.value.hint == "check its address and the network (variables AWS_…)"


def test_what_the_store_refuses_is_told_at_the_first_start(between: Between) -> None:
    with pytest.raises(StateError, match="404") as raised:
        job(1)[0].run(checkpoint_dir="s3://no-such-bucket/folder", **SETTINGS)
    assert not isinstance(raised.value, UnreachableError)
    assert raised.value.hint == "check the bucket's name, and what the credentials allow (variables AWS_…)"


def test_a_stop_says_that_it_waits_for_the_store_and_ends(
    between: Between, place: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PATIENCE", 0.02)

    async def whole() -> None:
        handle = await job(100, ends=False)[0].start(checkpoint_dir=place, **SETTINGS)
        await handle.checkpoint()
        falls_silent(between, monkeypatch)
        async with asyncio.timeout(30):
            await handle.stop()

    with pytest.raises(StateError, match="could not be stored: cannot"):
        asyncio.run(whole())
    told: list[Any] = [vars(each)["told"] for each in caplog.records if each.message == STILL]
    waited = [each["waits_for"] for each in told]
    assert any(each.startswith(f"an answer of {place}: ") for each in waited)


RUNS = """
import asyncio, itertools
import streamflow as sf

async def rows(start):
    for n in itertools.count(start):
        yield {"n": n}
        await asyncio.sleep(0.01)

job = sf.Job("runs")
job.read(sf.source(rows, schema={"n": sf.Int64}, bounded=False)).write(sf.sink(lambda rows: print(rows, flush=True)))
job.run(checkpoint_dir=PLACE, checkpoint_interval="50ms", mode="streaming")
"""


def test_a_second_signal_ends_a_program_whose_store_does_not_answer(
    between: Between, place: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(RUNS.replace("PLACE", repr(place)))
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        between.mute()
        assert between.held.wait(30)
        process.send_signal(signal.SIGINT)
        said = b""
        while b"a second signal" not in said:
            said += process.stderr.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT
        assert time.monotonic() - began < 5
        said += process.stderr.read()
    assert b"stopped at once; what was not committed is discarded" in said
    assert b"Traceback" not in said
