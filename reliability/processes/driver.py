"""The coordinator under fire: `python -m reliability.processes.driver ROOT …` runs a job on workers.

It says in lines of JSON, by the machine's monotonic clock, what its log says about workers and restarts, when a
checkpoint was published, and how it ended.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from reliability.process import ROOT
from reliability.processes.fuses import FOLDER, burning
from reliability.processes.hosts import OnHosts
from reliability.saying import run_saying, say
from streamflow.api.physical import physical_plan
from streamflow.api.running import stopping_on_signals
from streamflow.cli.loading import load
from streamflow.config import Secret, Settings
from streamflow.runners.local import LocalJob
from streamflow.runners.processes.control_server import ControlServer
from streamflow.runners.processes.opening import introduction_by
from streamflow.runners.processes.pool import WorkerPool
from streamflow.runners.processes.starting import Subprocesses
from streamflow.runners.program import Program
from streamflow.runtime.ports import Ports
from streamflow.runtime.profile import profile_for
from streamflow.time.clock import SystemClock

WATCHED = {"worker is up", "worker lost", "job restarts", "job is running"}


class Teller(logging.Handler):
    """Says the log lines that matter here."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message in WATCHED:
            say(event=message, at=time.monotonic(), **getattr(record, "told", {}))


async def run(options: argparse.Namespace) -> int:
    """The job to its end, or until it is told to stop."""
    burn = burning()

    def reach(name: str) -> None:
        burn(name)
        if name == "manifest.published":
            say(event=name, at=time.monotonic())

    ports = Ports(reach=reach)
    names = ("root", "pause") if options.job == "files" else ("root", "name", "bootstrap", "pause")
    given = {name: str(getattr(options, name)) for name in names}
    job, _ = load(str(Path(__file__).with_name(f"{options.job}.py")), given, told=False)
    settings = Settings.resolve(
        {
            "mode": "streaming",
            "runner": "processes",
            "processes": options.processes,
            "parallelism": options.parallelism,
            "worker_timeout": options.worker_timeout,
            "batch_rows": options.batch_rows,
            "checkpoint_dir": str(options.root / "checkpoints"),
            "checkpoint_interval": options.interval,
            "checkpoint_physical_every": 5,
            "restart": "fixed",
            "restart_attempts": 1_000,
            "restart_delay": "20ms",
        }
    )
    pool = pool_of(settings, Program.holding(job), options.root / "cuts" if options.hosts else None)
    handle = LocalJob(
        job.graph,
        physical_plan,
        profile_for(settings.mode, settings, bounded=job.graph.bounded),
        settings,
        ports=ports,
        pool=pool,
    )
    try:
        with stopping_on_signals(handle):
            result = await handle.wait()
    finally:
        ports.close()
    say(ended="stopped" if result.stopped else "finished", restarts=result.restarts, fenced=pool.fenced)
    return 0


def pool_of(settings: Settings, program: Program, cuts: Path | None) -> WorkerPool:
    """The pool as the product makes it, with workers that have fuses, on hosts if there is a folder of `cuts`."""
    workers = settings.processes or 1
    introduction = replace(introduction_by(settings, program), log_level="WARNING")
    module = "reliability.processes.worker"
    starter = Subprocesses(module, share=workers) if cuts is None else OnHosts(module, cuts)
    server = ControlServer(Secret(introduction.secret))
    return WorkerPool(workers, starter, server, introduction, clock=SystemClock())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability.processes.driver", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--job", choices=("files", "topics"), default="files")
    parser.add_argument("--name", default="site")
    parser.add_argument("--bootstrap", default="")
    parser.add_argument("--hosts", type=int, default=0, help="1: workers on hosts that can be cut off")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--parallelism", type=int, default=3)
    parser.add_argument("--worker-timeout", default="3s")
    parser.add_argument("--batch-rows", type=int, default=128)
    parser.add_argument("--interval", default="150ms")
    options = parser.parse_args()
    os.environ[FOLDER] = str(options.root / "fuses")
    os.environ["PYTHONPATH"] = str(ROOT)
    log = logging.getLogger("streamflow")
    log.setLevel(logging.INFO)
    log.addHandler(Teller())
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return run_saying(run(options))


if __name__ == "__main__":
    sys.exit(main())
