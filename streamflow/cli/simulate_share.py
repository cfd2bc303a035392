"""One share of `streamflow simulate`: a process of its own that runs some of the seeds and reports in lines of JSON.

The command starts it with `python -m`, a JSON object and the number of a pipe as its arguments; stdout is the user's
own, whose job may print. Polars gets one thread, since the frames of a simulation are small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, Final

from streamflow.errors import ConfigError, JobDefinitionError, JobFailedError, StreamflowError, Where

if TYPE_CHECKING:
    from streamflow.testing.simulation.campaign import Campaign
    from streamflow.time.clock import Clock

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
        job, rows=share.rows, key=share.key or None, keep_order=share.keep_order, settings=settings
    )


@contextmanager
def running(shares: Sequence[Share]) -> Generator[Iterator[tuple[int, Line]]]:
    """Processes for the shares, and (number of the share, its message) as they come; leaving ends all processes."""
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    processes: list[subprocess.Popen[bytes]] = []
    pipes: list[int] = []
    for share in shares:
        reading, writing = os.pipe()
        command = [
            sys.executable,
            "-m",
            "streamflow.cli.simulate_share",
            json.dumps(asdict(share)),
            str(writing),
        ]
        # Each seed prints the job's text again: nobody can read that.
        processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, pass_fds=[writing])
        )
        os.close(writing)
        pipes.append(reading)
    lines: Queue[tuple[int, Line | None]] = Queue()
    readers = [
        Thread(target=_read, args=(number, pipe, lines), daemon=True) for number, pipe in enumerate(pipes)
    ]
    for reader in readers:
        reader.start()
    try:
        yield _told(processes, lines)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait()


def _read(number: int, pipe: int, lines: Queue[tuple[int, Line | None]]) -> None:
    try:
        with os.fdopen(pipe, encoding="utf-8") as stream:
            for line in stream:
                lines.put((number, json.loads(line)))
    finally:
        lines.put((number, None))


def _told(
    processes: Sequence[subprocess.Popen[bytes]], lines: Queue[tuple[int, Line | None]]
) -> Iterator[tuple[int, Line]]:
    ended: set[int] = set()
    while len(ended) < len(processes):
        number, line = lines.get()
        if line is not None and "error" in line:
            wrong = line["error"]
            kind = JobDefinitionError if wrong["usage"] else StreamflowError
            raise kind(wrong["message"], where=Where(**wrong["where"]), hint=wrong["hint"])
        if line is not None:
            yield number, line
            continue
        ended.add(number)
        if processes[number].wait() != 0:
            raise JobFailedError("a process of the simulation has ended", hint="its messages stand above")


def main(argv: Sequence[str]) -> int:
    """Runs a share and reports."""
    from streamflow.time.clock import SystemClock

    clock = SystemClock()
    share = Share(**json.loads(argv[0]))
    try:
        with os.fdopen(int(argv[1]), "w", encoding="utf-8") as pipe:
            return _run(share, clock, pipe)
    except BrokenPipeError:  # the command has been ended: there is no reader any more
        return 1


def _run(share: Share, clock: Clock, pipe: IO[str]) -> int:
    def tell(line: Line) -> None:
        print(json.dumps(line), file=pipe, flush=True)

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
        return 0
    seeds = range(share.first, share.first + share.count)
    told = clock.monotonic()
    for _ in campaign.run(seeds):
        if campaign.simulation.failures:
            break
        if clock.monotonic() - told > _EVERY:
            told = clock.monotonic()
            tell({"seeds": campaign.simulation.seeds})
    tell({"simulation": campaign.simulation.as_dict()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
