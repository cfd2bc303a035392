"""`streamflow simulate`: a job's seeded lives with crashes, side by side; a failing seed with its replay."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from streamflow.cli.failure import ExitCode
from streamflow.cli.parameters import Debug, Json, Pairs, Target, assignments
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from streamflow.cli.simulate_share import Share
    from streamflow.testing.simulation.report import Simulation

__all__ = ["simulate"]

_WIPE: Final = "\r\x1b[2K"


def simulate(
    target: Target,
    /,
    *,
    seeds: int = 1000,
    first: int = 0,
    seed: int | None = None,
    processes: int = 1,
    shares: int | None = None,
    rows: int = 200,
    key: str | None = None,
    keep_order: bool = False,
    set: Pairs = (),
    quiet: bool = False,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Run a job under virtual time with crashes, restores and failing disks; compare with the undisturbed batch run.

    Sinks are replaced, so that nothing is written; sources are read once. Ends with 1 if a seed fails, and prints
    the simplest failing life found and the command that runs it again.

    Parameters
    ----------
    seeds
        Number of seeds to run.
    first
        The first seed.
    seed
        Run this seed only: a replay.
    processes
        Processes that the subtasks are in at most, beside the coordinator's; they are killed, held up and cut off from
        one another as well. They are simulated, too.
    shares
        Shares of the seeds that run side by side; two unless the machine has fewer cores.
    rows
        Number of records to take of each source: its first ones.
    key
        Columns by which a later result replaces an earlier one, like origin,dest.
    keep_order
        Keep the order in which records were read, for jobs whose results depend on it.
    quiet
        Show no progress and, if no seed fails, nothing at all.
    """
    from streamflow.cli.simulate_share import Share, campaign_for

    keys = tuple(each.strip() for each in key.split(",")) if key else ()
    if seeds < 1 or rows < 1 or processes < 1 or (shares is not None and shares < 1):
        raise ConfigError("--seeds, --rows, --processes and --shares must be at least 1")
    if first < 0 or (seed is not None and seed < 0):
        raise ConfigError("--first and --seed must not be negative")
    whole = Share(target, first, seeds, rows, keys, keep_order, assignments(set), processes)
    if seed is None:
        simulation = _many(whole, shares or min(2, os.cpu_count() or 1), quiet=quiet, stdout=not json_)
    else:
        campaign = campaign_for(whole)
        deque(campaign.run([seed]), maxlen=0)
        simulation = campaign.simulation
    return _tell(simulation, whole, as_json=json_, quiet=quiet)


def _many(whole: Share, shares: int, *, quiet: bool, stdout: bool) -> Simulation:
    """Runs all shares until they are done or one has found a failure."""
    from streamflow.cli.loading import load
    from streamflow.cli.simulate_share import running
    from streamflow.testing.simulation.report import Simulation
    from streamflow.time.clock import SystemClock

    job, _ = load(whole.target, whole.given, stdout=stdout)
    clock = SystemClock()
    began = clock.monotonic()
    total = Simulation(job.name, whole.first)
    done: dict[int, int] = {}
    with running(whole.cut(shares)) as told:
        for number, line in told:
            if "simulation" in line:
                total.merge(Simulation.from_dict(line["simulation"]))
                done[number] = line["simulation"]["seeds"]
                if total.failures:
                    break
            else:
                done[number] = line["seeds"]
            if not quiet:
                _show(sum(done.values()), whole.count, clock.monotonic() - began)
    total.seconds = clock.monotonic() - began
    if not quiet and sys.stderr.isatty():
        print(_WIPE, end="", file=sys.stderr, flush=True)
    return total


def _show(done: int, count: int, seconds: float) -> None:
    if sys.stderr.isatty():
        rate = done / seconds if seconds else 0
        print(f"{_WIPE}{done} of {count} seeds, {rate:.0f} a second", end="", file=sys.stderr, flush=True)


def _tell(simulation: Simulation, whole: Share, *, as_json: bool, quiet: bool) -> int:
    if as_json:
        plain = simulation.as_dict()
        for failure in plain["failures"]:
            failure["replay"] = _replay(whole, failure["seed"])
        print(json.dumps(plain))
    elif not quiet:
        print(simulation.text())
    for failure in simulation.failures[:1]:
        print(failure.text(_replay(whole, failure.seed)), file=sys.stderr)
    return ExitCode.FAILED if simulation.failures else ExitCode.DONE


def _replay(share: Share, seed: int) -> str:
    """The command that runs this seed again as it was run here."""
    words = ["streamflow", "simulate", share.target, "--seed", str(seed)]
    if share.rows != 200:
        words += ["--rows", str(share.rows)]
    if share.key:
        words += ["--key", ",".join(share.key)]
    if share.keep_order:
        words.append("--keep-order")
    if share.processes > 1:
        words += ["--processes", str(share.processes)]
    for name, value in share.given.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
