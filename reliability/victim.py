"""The process that is killed: `python -m reliability.victim ROOT …` runs the job of `reliability.flow` in ROOT.

It says in lines of JSON when the first record was processed, seconds after this module's first line, and how it ended.
"""

import time

BORN = time.monotonic()  # the process's own code begins here: what is imported below counts

import argparse  # noqa: E402
import asyncio  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from reliability.flow import FIRST_OPERATOR, Place, job_of  # noqa: E402
from reliability.points import Point, kill_at  # noqa: E402
from reliability.saying import run_saying, say  # noqa: E402
from streamflow.api.running import stopping_on_signals  # noqa: E402
from streamflow.runners.local import LocalJob  # noqa: E402
from streamflow.runtime.ports import Ports  # noqa: E402

IMPORTED = time.monotonic() - BORN


async def run(options: argparse.Namespace) -> int:
    """The job to its end, or until it is told to stop; 1 where it failed."""
    ports = Ports() if options.die_at is None else Ports(reach=kill_at(Point.parse(options.die_at)))
    job = job_of(Place(options.root), options.pause)
    handle = await job.start(
        ports=ports,
        mode="streaming",
        parallelism=options.parallelism,
        batch_rows=options.batch_rows,
        checkpoint_dir=str(Place(options.root).checkpoints),
        checkpoint_interval=options.interval,
        checkpoint_physical_every=5,
        restore=options.restore,
        restart=options.restart,
        restart_attempts=options.restart_attempts,
        restart_delay="100ms",
    )
    watching = asyncio.create_task(_first_record(handle))
    try:
        with stopping_on_signals(handle):
            result = await handle.wait()
    finally:
        watching.cancel()
        ports.close()
    say(ended="stopped" if result.stopped else "finished", read=handle.status().records_read)
    return 0


async def _first_record(handle: LocalJob) -> None:
    """Says once when a record has been through the first operator behind the source."""
    while not _processed(handle):  # noqa: ASYNC110 — nobody else tells
        await asyncio.sleep(0.001)
    say(first_record=time.monotonic() - BORN, imported=IMPORTED, cpu=time.process_time())


def _processed(handle: LocalJob) -> bool:
    operators = handle.registry.operators
    return any(metrics.records_in.value for (id, _), metrics in operators.items() if id == FIRST_OPERATOR)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability.victim", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--batch-rows", type=int, default=256)
    parser.add_argument("--interval", default="100ms")
    parser.add_argument("--restore", default="latest")
    parser.add_argument("--restart", default="none")
    parser.add_argument("--restart-attempts", type=int, default=5)
    parser.add_argument("--file-limit", type=int, help="bytes that no file may exceed")
    parser.add_argument("--die-at", help="point:time")
    options = parser.parse_args()
    if options.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_limit, resource.RLIM_INFINITY))
    return run_saying(run(options))


if __name__ == "__main__":
    sys.exit(main())
