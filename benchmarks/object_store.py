"""`python -m benchmarks.object_store [TREE …]`: a checkpoint of a gigabyte of keyed state in an object store, and the
restore from it.

Each TREE is a checkout (default: this one); several are measured in turn, by the same program. The store is moto's
server on this machine, so its own work is part of the seconds. State: 64 random bytes for each key, in RocksDB.
Checkpoint: from the stop until it is published, with the whole state new. Restore: from the restarted process's first
own line to the first record that it processes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import data
from benchmarks.program import ROOT, ProgramError
from tests.conformance.s3_server import BUCKET, s3_server

KEYS = 12_000_000
PROGRAM = """
import time
BORN = time.monotonic()
import asyncio, json, os, signal, sys
from pathlib import Path
import streamflow as sf
from benchmarks.workloads.keyed_checkpoints import job_of
from streamflow.api.running import run_on_loop

async def run(do, folder, place, keys):
    job = job_of(Path(folder), keys, None if do == "fill" else 100_000)
    settings = {"checkpoint_dir": place, "checkpoint_interval": "1h", "restart": "none"}
    handle = await job.start(mode="streaming", **settings)
    if do == "fill":
        while handle.status().records_read < keys:
            await asyncio.sleep(0.05)
        began = time.monotonic()
        await handle.stop()
        return {"checkpoint": time.monotonic() - began, "bytes": handle.status().checkpoint.nbytes}
    while not any(m.records_in.value for (id, _), m in handle.registry.operators.items() if id == "process-1"):
        await asyncio.sleep(0.001)
    print(json.dumps({"restore": time.monotonic() - BORN}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

do, folder, place, keys = sys.argv[1:]
print(json.dumps(run_on_loop(run(do, folder, place, int(keys)))), flush=True)
"""


def measured(
    do: str, number: int, tree: Path, folder: Path, keys: int, store: Mapping[str, str]
) -> dict[str, Any]:
    """The report of one process of one tree; the restoring one kills itself, so that the next finds the same."""
    place = folder / str(number)
    place.mkdir(exist_ok=True)
    ended = subprocess.run(
        [
            sys.executable,
            "-P",
            str(folder / "program.py"),
            do,
            str(place),
            f"s3://{BUCKET}/{number}",
            str(keys),
        ],
        env=os.environ | store | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if ended.returncode not in (0, -signal.SIGKILL) or not ended.stdout:
        raise ProgramError(f"{do} ended with {ended.returncode}: {ended.stderr.strip().splitlines()[-1:]}")
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said


def main() -> None:
    """Prints a line for each process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_store", description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path, default=[ROOT], metavar="TREE")
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with TemporaryDirectory(dir=data.cache_folder()) as name, s3_server() as store:
        folder = Path(name)
        (folder / "program.py").write_text(PROGRAM)
        for do in ["fill", *["restore"] * given.rounds]:
            for number, tree in enumerate(given.trees):
                said = measured(do, number, tree.resolve(), folder, given.keys, store)
                print(tree, *(f"{what} {value:,.2f}" for what, value in said.items()), flush=True)


if __name__ == "__main__":
    main()
