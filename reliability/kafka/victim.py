"""The process that is killed, frozen or cut off: `python -m reliability.kafka.victim ROOT …` runs the job of `flow`.

It says in lines of JSON when output was committed (by the machine's monotonic clock, which all processes share), that
it is about to freeze itself, and how it ended. On SIGUSR1 it goes on without pauses.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from reliability.kafka import flow, poison
from reliability.kafka.flow import Site
from reliability.kafka.long_lived import LongLived
from reliability.pacing import Pace
from reliability.points import Point, kill_at
from reliability.saying import run_saying, say
from streamflow.api.running import stopping_on_signals
from streamflow.operators.connectors.kafka.clients.port import KafkaClient
from streamflow.operators.connectors.kafka.cluster import Cluster
from streamflow.runtime.ports import Ports

JOBS = {"windows": flow.job_of, "poison": poison.job_of}


async def run(options: argparse.Namespace) -> int:
    """The job to its end, or until it is told to stop."""
    site = Site(options.root, options.bootstrap, options.name)
    pace = Pace(options.pause)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(pace, "seconds", 0.0))
    client: str | KafkaClient = "aiokafka"
    if options.long_lived:
        client = LongLived(Cluster(options.bootstrap).client())
    ports = Ports(reach=_watched(options))
    handle = await JOBS[options.job](site, pace, client).start(
        ports=ports,
        mode="streaming",
        parallelism=options.parallelism,
        batch_rows=options.batch_rows,
        checkpoint_dir=str(site.checkpoints),
        checkpoint_interval=options.interval,
        checkpoint_lock=bool(options.lock),
        checkpoint_physical_every=5,
        restore="latest",
        restart="none",
    )
    say(started=time.monotonic())
    try:
        with stopping_on_signals(handle):
            result = await handle.wait()
    finally:
        ports.close()
    say(ended="stopped" if result.stopped else "finished", read=handle.status().records_read)
    return 0


def _watched(options: argparse.Namespace) -> Callable[[str], None]:
    """Ends or freezes the process where it is told to, and says when output has been committed."""
    dies = kill_at(Point.parse(options.die_at)) if options.die_at else None
    freezes = Point.parse(options.freeze_at) if options.freeze_at else None
    seen = 0

    def reach(name: str) -> None:
        nonlocal seen
        if dies is not None:
            dies(name)
        if freezes is not None and name == freezes.name:
            seen += 1
            if seen == freezes.time:
                say(freezes=str(freezes))
                os.kill(os.getpid(), signal.SIGSTOP)
        if name == "kafka.committed":
            say(committed=time.monotonic())

    return reach


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability.kafka.victim", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--job", choices=JOBS, default="windows")
    parser.add_argument("--lock", type=int, default=1, help="0: others may take the job over")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--batch-rows", type=int, default=256)
    parser.add_argument("--interval", default="100ms")
    parser.add_argument("--die-at", help="point:time")
    parser.add_argument("--freeze-at", help="point:time")
    parser.add_argument("--long-lived", type=int, default=0, help="1: one producer for many transactions")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it complains of each connection that is cut
    return run_saying(run(options))


if __name__ == "__main__":
    sys.exit(main())
