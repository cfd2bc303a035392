"""The commands for a job that runs elsewhere, by its control server: `status`, `top`, `why`, `stop`, `savepoint`,
`rescale`."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from streamflow.cli.control_client import ControlClient, WatchedJob, place_of
from streamflow.cli.failure import ExitCode
from streamflow.cli.parameters import Debug, JobUrl, Json, Timeout, TokenFile
from streamflow.cli.terminal.progress import ending
from streamflow.cli.terminal.waits import explained
from streamflow.errors import ConfigError, StreamflowError, unknown_name
from streamflow.observe.status import JobResult
from streamflow.observe.why import Wait

__all__ = ["rescale", "savepoint", "status", "stop", "top", "why"]

_EVERY: Final = 1.0
"""Seconds between two looks at the job."""
_WIDE: Final = 160


def status(
    job_url: JobUrl,
    /,
    *,
    token_file: TokenFile = None,
    timeout: Timeout = "10s",
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Show the status of a running job; as JSON all of it."""
    job = WatchedJob(job_url, token_file=token_file, timeout=timeout)
    now = job.look()
    if json_:
        print(json.dumps(asdict(now)))
        return ExitCode.DONE
    from rich.console import Console

    from streamflow.cli.terminal.overview import overview

    time.sleep(_EVERY)  # rates are those of this second
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(overview(job.look(), job.before))
    return ExitCode.DONE


def top(
    job_url: JobUrl,
    /,
    *,
    token_file: TokenFile = None,
    timeout: Timeout = "10s",
    debug: Debug = False,
) -> int:
    """Watch a running job, live; q or Ctrl-C ends the view. Outside of a terminal the status is shown once."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return status(job_url, token_file=token_file, timeout=timeout)

    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from streamflow.cli.terminal.overview import overview

    job = WatchedJob(job_url, token_file=token_file, timeout=timeout)
    shown = job.look()
    console, ended = Console(highlight=False), ""
    hint = Text("q ends this, not the job", style="dim")
    try:
        with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(Group(overview(shown, job.before), hint), refresh=True)
                if pressed(_EVERY) in ("q", "Q", "\x03"):
                    break
                shown = job.look()
    except StreamflowError as error:
        ended = error.message
    except KeyboardInterrupt:
        ended = ""
    console.print(overview(shown, job.before))
    if ended:
        print(ended, file=sys.stderr)
    return ExitCode.DONE


def why(
    job_url: JobUrl,
    operator: Annotated[str | None, Parameter(name="OPERATOR")] = None,
    /,
    *,
    token_file: TokenFile = None,
    timeout: Timeout = "10s",
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Say what the results of a running job wait for: windows, timers, rows of a join, requests, sinks.

    Parameters
    ----------
    operator
        Only this operator; without it all that hold something back.
    """
    client = ControlClient(job_url, token_file=token_file, timeout=timeout)
    before, began = _waits(client, operator), time.monotonic()
    if json_:
        print(json.dumps([asdict(each) for each in before]))
        return ExitCode.DONE
    if not before:
        print("nothing waits" if operator is None else f"{operator} waits for nothing")
        return ExitCode.DONE
    time.sleep(_EVERY)  # the pace is that of this second
    now, seconds = _waits(client, operator), time.monotonic() - began
    marks = {each.operator: each.watermark for each in before}
    for each in now:
        print(explained(each, marks.get(each.operator), seconds))
    return ExitCode.DONE


def _waits(client: ControlClient, operator: str | None) -> list[Wait]:
    waits = [each for each in client.waits() if operator in (None, each.operator)]
    if not waits and operator is not None:
        known = [each.operator for each in client.status().operators]
        if operator not in known:
            message, hint = unknown_name("operator", operator, known)
            raise ConfigError(message, hint=hint)
    return waits


def stop(
    job_url: JobUrl,
    /,
    *,
    drain: bool = False,
    savepoint: str | None = None,
    token_file: TokenFile = None,
    timeout: Timeout = "10m",
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Stop a running job.

    Parameters
    ----------
    drain
        End the input: open windows give their results, and the job cannot be continued.
    savepoint
        Place for a full copy of the last checkpoint: a folder or an object store's URL, as the job sees it.
    """
    order: dict[str, object] = {"drain": drain}
    if savepoint is not None:
        order["savepoint"] = place_of(savepoint)
    answer = ControlClient(job_url, token_file=token_file, timeout=timeout).post("/stop", order)
    if json_:
        print(json.dumps(answer["result"]))
    else:
        result = msgspec.convert(answer["result"], JobResult)
        print(ending(result))
        if result.savepoint is not None:
            print(result.savepoint)
    return ExitCode.DONE


def savepoint(
    job_url: JobUrl,
    target: Annotated[str, Parameter(name="TARGET")],
    /,
    *,
    token_file: TokenFile = None,
    timeout: Timeout = "10m",
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Take a savepoint of a running job: a checkpoint, copied whole to another place.

    Parameters
    ----------
    target
        A folder or an object store's URL (s3://bucket/folder), as the job sees it.
    """
    order = {"target": place_of(target)}
    answer = ControlClient(job_url, token_file=token_file, timeout=timeout).post("/savepoint", order)
    print(json.dumps(answer) if json_ else answer["savepoint"])
    return ExitCode.DONE


def rescale(
    job_url: JobUrl,
    parallelism: Annotated[int, Parameter(name="PARALLELISM")],
    /,
    *,
    token_file: TokenFile = None,
    timeout: Timeout = "10m",
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Go on with another number of subtasks: a running job takes a checkpoint and continues from it.

    Parameters
    ----------
    parallelism
        Subtasks per operator; operators with a parallelism of their own keep it.
    """
    answer = ControlClient(job_url, token_file=token_file, timeout=timeout).post(
        "/rescale", {"parallelism": parallelism}
    )
    print(json.dumps(answer) if json_ else f"running with parallelism {answer['parallelism']}")
    return ExitCode.DONE


@contextmanager
def _keys() -> Generator[Callable[[float], str | None]]:
    """A context in which the terminal on stdin passes on each key at once; Ctrl-C keeps its meaning. Gives a function
    that waits some seconds for a key: None without one, and without a suitable terminal."""
    try:
        import termios
        import tty
    except ImportError:
        yield time.sleep
        return

    def pressed(seconds: float) -> str | None:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return os.read(sys.stdin.fileno(), 1).decode("latin-1") if ready else None

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
