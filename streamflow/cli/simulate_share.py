"""One share of `streamflow simulate`: a process of its own that runs some of the seeds and reports in JSON.

Polars gets one thread, since the frames of a simulation are small.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from streamflow.errors import ConfigError, JobDefinitionError, JobFailedError, StreamflowError, Where
from streamflow.time.clock import Clock, SystemClock

if TYPE_CHECKING:
    from streamflow.testing.simulation.campaign import Campaign

__all__ = ["Share", "campaign_for", "running"]

_EVERY: Final = 0.25
"""Seconds between two lines of progress."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """The seeds of a job to run, and the options."""

    target: str
    first: int
    count: int
    rows: int
    key: tuple[str, ...] = ()
    keep_order: bool = False
    given: Mapping[str, str] = field(default_factory=dict[str, str])
    processes: int = 1

    def cut(self, parts: int) -> list[Share]:
        """The same share in parts of about one size; fewer parts if there are fewer seeds."""
        size, more = divmod(self.count, parts)
        shares: list[Share] = []
        first = self.first
        for number in range(parts):
            count = size + (number < more)
            if count:
                plain: dict[str, Any] = {**asdict(self), "first": first, "count": count}
                shares.append(Share(**plain))
            first += count
        return shares


def campaign_for(share: Share) -> Campaign:
    """A campaign for the loaded job; raises the job's errors."""
    from streamflow.cli.loading import load
    from streamflow.testing.simulation.campaign import Campaign

    job, settings = load(share.target, share.given, stdout=False)
    return Campaign(
        job,
        rows=share.rows,
        key=share.key or None,
        keep_order=share.keep_order,
        processes=share.processes,
        settings=settings,
    )


@contextmanager
def running(shares: Sequence[Share]) -> Generator[Iterator[tuple[int, Line]]]:
    """Processes for the shares, and (number of the share, its message) as they come; leaving ends all processes."""
    os.environ["POLARS_MAX_THREADS"] = "1"  # of the processes to come: this one has its threads
    context = get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: dict[Any, int] = {}
    for number, share in enumerate(shares):
        reading, writing = context.Pipe(duplex=False)
        processes.append(context.Process(target=_run_share, args=(share, writing), daemon=True))
        processes[-1].start()
        writing.close()
        pipes[reading] = number
    try:
        yield _told(processes, pipes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _told(processes: Sequence[SpawnProcess], pipes: dict[Any, int]) -> Iterator[tuple[int, Line]]:
    while pipes:
        for pipe in cast("list[Connection]", wait(pipes)):
            try:
                line: Line = json.loads(pipe.recv_bytes())
            except EOFError:
                process = processes[pipes.pop(pipe)]
                process.join()
                if process.exitcode:
                    raise JobFailedError(
                        "a process of the simulation has ended", hint="its messages stand above"
                    ) from None
                continue
            if "error" in line:
                wrong = line["error"]
                kind = JobDefinitionError if wrong["usage"] else StreamflowError
                raise kind(wrong["message"], where=Where(**wrong["where"]), hint=wrong["hint"])
            yield pipes[pipe], line


def _run_share(share: Share, pipe: Connection) -> None:
    """Runs a share in a process of its own, and reports."""
    # Each seed prints the job's text again: nobody can read that.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(BrokenPipeError):  # the command has been ended: there is no reader any more
        _run(share, SystemClock(), lambda line: pipe.send_bytes(json.dumps(line).encode()))


def _run(share: Share, clock: Clock, tell: Callable[[Line], None]) -> None:
    try:
        # The command has loaded the file as well, and shown its printed text.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            campaign = campaign_for(share)
    except StreamflowError as error:
        told_error = {
            "message": error.message,
            "where": asdict(error.where),
            "hint": error.hint,
            "usage": isinstance(error, (ConfigError, JobDefinitionError)),
        }
        tell({"error": told_error})
        return
    seeds = range(share.first, share.first + share.count)
    told = clock.monotonic()
    for _ in campaign.run(seeds):
        if campaign.simulation.failures:
            break
        if clock.monotonic() - told > _EVERY:
            told = clock.monotonic()
            tell({"seeds": campaign.simulation.seeds})
    tell({"simulation": campaign.simulation.as_dict()})
