"""A measured program in a fresh process: how it is started, and what it said.

Whole-process time runs from the spawn to the result in hand; the checks that follow in the process are not
counted.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import SPAWNED
from benchmarks.peers.table import PEERS, Peer, interpreter_for

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 900


class ProgramError(Exception):
    """A measured program ended with an error or gave a wrong result."""


@dataclass(frozen=True)
class Program:
    """A program to start: a module under an interpreter, for a workload."""

    name: str
    module: str
    workload: str
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    closed_gap: bool = False
    streaming_peer: bool = False
    tree: Path = ROOT
    """The checkout whose code runs."""


@dataclass(frozen=True)
class Measurement:
    """The report of a program: times in seconds, memory in MiB; and the processor time of the whole process."""

    events: int
    seconds: float
    startup: float
    whole: float
    peak_mb: float
    rows: int
    checksum: str
    sum: float
    cpu: float = math.nan
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> "Measurement":
        said = json.loads(line)
        known = {name: said.pop(name) for name in cls.__dataclass_fields__ if name in said}
        return cls(**known, more=said)


def ours(
    workload: str,
    *,
    mode: str = "streaming",
    parallelism: int = 1,
    sink: str = "collect",
    checkpoints: str | None = None,
) -> Program:
    """streamflow's program for a workload; `checkpoints` is the interval at which it takes them."""
    settings = {"MODE": mode, "PARALLELISM": str(parallelism), "SINK": sink}
    if checkpoints is not None:
        settings["CHECKPOINTS"] = checkpoints
    environment = {f"STREAMFLOW_BENCH_{name}": value for name, value in settings.items()}
    name = "streamflow" if checkpoints is None else f"streamflow, checkpoints every {checkpoints}"
    return Program(name, "benchmarks.workloads.run", workload, environment=environment)


def installed_peers(workload: str) -> list[Program]:
    """The peers that can do a workload and are installed somewhere that we know of."""
    found = ((peer, interpreter_for(peer)) for peer in PEERS if workload in peer.workloads)
    return [_peer_program(peer, workload, python) for peer, python in found if python]


def missing_peers() -> list[str]:
    """The names of peers that no known interpreter can import."""
    return [peer.name for peer in PEERS if interpreter_for(peer) is None]


def measure(program: Program, source: Path, result: Path | None = None) -> Measurement:
    """Runs the program once in a fresh process."""
    command = [
        program.python,
        "-m",
        program.module,
        program.workload,
        str(source),
        *([str(result)] if result else []),
    ]
    before = _processor_seconds()
    said = run_fresh(f"{program.name} {program.workload}", command, program.environment, tree=program.tree)
    return replace(Measurement.parse(said.splitlines()[-1]), cpu=_processor_seconds() - before)


def run_fresh(
    what: str, command: list[str], environment: dict[str, str] | None = None, *, tree: Path = ROOT
) -> str:
    """Runs a command from a checkout's root; its output, or `ProgramError` with the end of its errors. Modules are
    compiled once and not for each run, as where the package is installed."""
    own = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "", SPAWNED: str(time.monotonic())}
    environ = os.environ | own | (environment or {})
    run = partial(
        subprocess.run, cwd=tree, env=environ, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    try:
        ended = run(command, check=False)
    except subprocess.TimeoutExpired as expired:
        raise ProgramError(f"{what} did not end within {TIMEOUT_SECONDS} s") from expired
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["nothing said"]
        raise ProgramError("\n".join([f"{what} ended with {ended.returncode}: {said[-1]}", *said[-15:]]))
    return ended.stdout


def _processor_seconds() -> float:
    """Processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peer_program(peer: Peer, workload: str, python: str) -> Program:
    return Program(
        peer.name,
        f"benchmarks.peers.{peer.program}",
        workload,
        python=python,
        closed_gap=peer.closed_gap,
        streaming_peer=peer.kind in {"jvm", "python"},
    )
