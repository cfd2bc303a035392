"""Jobs whose functions end their processes: by an exit after they have read stdin, and by a signal before anything has
run, the first time."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import streamflow as sf
from streamflow import col

BASE = sf.setting("base", ".")
ENDS_AT = 3_000


def rude(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 0:
        assert sys.stdin.read() == ""
    if row["n"] == ENDS_AT:
        os._exit(7)
    return row


rude_job = sf.Job("rude")
rude_job.read(sf.DataGen({"n": col("index")}, rows=100_000, rate=2_000)).map(
    rude, schema={"n": sf.Int64}
).key_by("n").aggregate(count=sf.count()).collect()


def killed_once() -> None:
    mark = Path(f"{BASE}/killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Killed:
    """Passes on what it gets; the first one to be opened is killed."""

    async def open(self) -> None:
        killed_once()

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return row

    async def close(self) -> None: ...


killed_job = sf.Job("killed")
killed_job_out = (
    killed_job.read(sf.DataGen({"n": col("index")}, rows=100))
    .map_async(Killed(), schema={"n": sf.Int64})
    .collect()
)
