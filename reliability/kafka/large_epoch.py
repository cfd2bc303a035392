"""A gigabyte of output in one epoch, sealed by eight subtasks and published in one transaction, whose set timeout would
be over long before."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import streamflow as sf
from benchmarks.figures import Figure
from deploy.kafka.local_broker import LocalBroker
from reliability.account import Account
from reliability.kafka.log import make_topics, read_committed

TOPIC = "large-epoch"
RECORDS = 100_000
RECORD_BYTES = 10_000
SUBTASKS = 8
SCHEMA = {"n": sf.Int64, "text": sf.String}


class Passed(sf.KeyedProcess):
    """Spreads the records over the subtasks."""

    output: ClassVar = SCHEMA

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        ctx.emit(event)


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part; `quick`: a twentieth of it."""
    count = RECORDS // 20 if quick else RECORDS

    async def rows(start: int) -> AsyncIterator[dict[str, Any]]:
        for n in range(start, count):
            # Half a byte of chance in each, which does not compress to less.
            yield {"n": n, "text": os.urandom(RECORD_BYTES // 2).hex()}
            if n % 100 == 0:
                await asyncio.sleep(0)

    with LocalBroker() as broker:
        make_topics(broker.bootstrap, {TOPIC: SUBTASKS})
        job = sf.Job("large-epoch")
        read = job.read(sf.source(rows, schema=SCHEMA))
        sink = sf.KafkaSink(
            TOPIC,
            broker.bootstrap,
            format="text",
            value="text",
            key="n",
            outbox_bytes="1GB",
            transaction_timeout="2s",
        )
        read.key_by("n").process(Passed()).write(sink)
        began = time.monotonic()
        result = job.run(
            mode="streaming",
            parallelism=SUBTASKS,
            checkpoint_dir=str(folder / "large-epoch"),
            checkpoint_interval="1h",
            restart="none",
        )
        seconds = time.monotonic() - began
        keys = sorted(int(message.key()) for message in read_committed(broker.bootstrap, TOPIC)[0])
    account.add(
        Figure("output in one epoch of 8 subtasks", count * RECORD_BYTES / 2**20, "MiB"),
        Figure("epochs", result.epochs, "", "≤", 1),
        Figure("from the first record to the end of the job", seconds, "s"),
        Figure(
            "records lost or doubled",
            0 if keys == list(range(count)) else abs(count - len(keys)) or 1,
            "",
            "≤",
            0,
        ),
    )
