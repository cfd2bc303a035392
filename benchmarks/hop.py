"""`python -m benchmarks.hop`: the processor time of a batch on its way from one process to another.

A sending and a receiving process, one channel, batches of a hash exchange's part: seven columns, two of them strings,
filtered out of larger frames. The receiver sums a column. Microseconds a batch of both processes, event loop and
system calls with them, without start and handshake; rows a second of processor time; bytes a row on the way. Then the
time of 1,024 rows on the way, from before they are encoded until they are decoded, at 200 batches a second.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from benchmarks.program import ROOT, ProgramError
from streamflow.api.running import run_on_loop
from streamflow.config import Secret
from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch, EndOfInput
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.transport import columns
from streamflow.runtime.transport.frames import HEADER, Encoder
from streamflow.runtime.transport.port import ChannelName
from streamflow.runtime.transport.sockets import SocketTransport

NAME = ChannelName(attempt=1, edge=0, upper=0, lower=1)
SIZES = (1_024, 8_192, 65_536)
ROWS = 6_000_000
"""Rows of a measurement."""
MOST = 65 << 20
SECRET = Secret("of this measurement")
WARM = 5


def batch_of(rows: int, layout: str) -> AnyBatch:
    """A part of a batch, as an exchange by hash between eight subtasks makes it."""
    n = pl.int_range(rows * 8, eager=True)
    whole = pl.DataFrame(
        {
            "user": "user-" + (n * 7_919 % 100_000).cast(pl.String),
            "page": "/pages/of/the/shop/" + (n % 977).cast(pl.String),
            "n": n,
            "amount": n.cast(pl.Float64) * 0.25,
            "clicks": n % 13,
            "bought": n % 2 == 0,
            EVENT_TIME: pl.Series(n * 1_000).cast(EVENT_TIME_TYPE),
        }
    )
    part = FrameBatch(whole.filter(pl.col("n") % 8 == 3))
    if layout == "columns":
        return part
    times: list[int] = part.frame[EVENT_TIME].to_physical().to_list()
    return RowBatch(part.user_frame().to_dicts(), times)


def sum_of(batch: AnyBatch) -> int:
    """The sum that the receiver takes."""
    if isinstance(batch, FrameBatch):
        return int(batch.frame["n"].sum())
    return sum(row["n"] for row in batch.values)


async def receive(place: str) -> dict[str, Any]:
    """Receives everything; the processor seconds from the last batch that only warms up."""
    transport = SocketTransport(SECRET, max_frame=MOST)
    await transport.listen(place)
    channel = Channel(merges=False)
    transport.expect(NAME, channel)
    inbox = Inbox([channel])
    print(transport.address, flush=True)
    began, total, batches = 0.0, 0, 0
    hops: list[float] = []
    while True:
        found = inbox.receive_nowait()
        if found is None:
            await inbox.news()
            continue
        if isinstance(found[1], EndOfInput):
            break
        batches += 1
        if batches == WARM:
            began = time.process_time()
        assert isinstance(found[1], FrameBatch | RowBatch)
        if isinstance(found[1], FrameBatch):
            hops.append((time.monotonic_ns() - found[1].frame["n"][0]) / 1e6)
        total += sum_of(found[1])
    seconds = time.process_time() - began
    await transport.close()
    hops = sorted(hops[WARM:])
    p50, p99 = (hops[round(len(hops) * share) - 1] if hops else 0.0 for share in (0.5, 0.99))
    return {"seconds": seconds, "sum": total, "p50": p50, "p99": p99}


async def send(address: str, rows: int, count: int, layout: str, every: float) -> dict[str, Any]:
    """Sends one batch again and again; with `every` seconds in between the time of its sending in place of a number."""
    batch = batch_of(rows, layout)
    transport = SocketTransport(SECRET, max_frame=MOST)
    await transport.listen("tcp:127.0.0.1:0")
    sender = transport.sender(address, NAME)
    await sender.open()
    began, total = 0.0, 0
    for number in range(count):
        if number == WARM:
            began = time.process_time()
        sent = batch
        if every and isinstance(batch, FrameBatch):
            await asyncio.sleep(every)
            sent = FrameBatch(batch.frame.with_columns(n=pl.lit(time.monotonic_ns())))
        await sender.send(sent)
        total += sum_of(sent) if every else 0
    await sender.send(EndOfInput())
    seconds = time.process_time() - began
    sender.close()
    await transport.close()
    frames = list(Encoder(most=MOST).frames(batch))
    nbytes = sum(HEADER.size + len(frame.body) for frame in frames)
    return {"seconds": seconds, "sum": total or count * sum_of(batch), "bytes": nbytes / rows}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks.hop", *map(str, arguments)]


def hop(
    place: str, rows: int, layout: str, *, plain: bool, every: float = 0.0
) -> tuple[float, float, float, float, float]:
    """Microseconds a batch of the sender and of the receiver, bytes a row, and milliseconds on the way: median, p99."""
    count = 1_000 if every else max(20, (ROWS if layout == "columns" else ROWS // 20) // rows)
    flags = ["--plain"] if plain else []
    to = subprocess.Popen(command("--receive", place, *flags), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert to.stdout is not None
    address = to.stdout.readline().strip()
    sending = command(
        "--send", address, "--rows", rows, "--count", count, "--layout", layout, "--every", every, *flags
    )
    done = subprocess.run(sending, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        to.kill()
    told, _ = to.communicate(timeout=60)
    if done.returncode or to.returncode:
        raise ProgramError(f"the hop of {rows} rows failed")
    sent, received = json.loads(done.stdout), json.loads(told)
    if sent["sum"] != received["sum"]:
        raise ProgramError(f"{sent['sum']} was sent, and {received['sum']} came")
    each = 1e6 / (count - WARM)
    return sent["seconds"] * each, received["seconds"] * each, sent["bytes"], received["p50"], received["p99"]


def lines(rounds: int) -> Iterator[str]:
    """The table, a line at a time."""
    yield "| µs of processor time a batch | rows | sender | receiver | together | million rows/CPU s | bytes a row |"
    yield "|---|---|---|---|---|---|---|"
    with TemporaryDirectory() as folder:
        ways = {
            "Unix socket": (f"unix:{folder}/hop", "columns", False),
            "TCP": ("tcp:127.0.0.1:0", "columns", False),
            "Unix socket, without pyarrow": (f"unix:{folder}/hop", "columns", True),
            "Unix socket, Python objects": (f"unix:{folder}/hop", "rows", False),
        }
        for name, (place, layout, plain) in ways.items():
            for rows in SIZES:
                found = [hop(place, rows, layout, plain=plain) for _ in range(rounds)]
                sender, receiver, nbytes, _, _ = (median(each) for each in zip(*found, strict=True))
                both = sender + receiver
                yield (
                    f"| {name} | {rows:,} | {sender:,.0f} | {receiver:,.0f} | {both:,.0f} | {rows / both:.1f} "
                    f"| {nbytes:.1f} |"
                )
        paced = [
            hop(f"unix:{folder}/hop", SIZES[0], "columns", plain=False, every=0.005) for _ in range(rounds)
        ]
        middle, slowest = (median(each[at] for each in paced) for at in (3, 4))
        yield f"{SIZES[0]:,} rows on the way: {middle:.2f} ms (median), p99 {slowest:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--receive", metavar="ADDRESS", help="be the receiving process")
    parser.add_argument("--send", metavar="ADDRESS", help="be the sending process")
    parser.add_argument("--rows", type=int, default=SIZES[0])
    parser.add_argument("--count", type=int, default=WARM)
    parser.add_argument("--every", type=float, default=0.0)
    parser.add_argument("--layout", choices=("columns", "rows"), default="columns")
    parser.add_argument("--plain", action="store_true", help="as if pyarrow were not installed")
    chosen = parser.parse_args()
    if chosen.plain:
        columns.pyarrow = lambda: None
    if chosen.receive:
        print(json.dumps(run_on_loop(receive(chosen.receive))))
    elif chosen.send:
        print(
            json.dumps(run_on_loop(send(chosen.send, chosen.rows, chosen.count, chosen.layout, chosen.every)))
        )
    else:
        for line in lines(chosen.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
