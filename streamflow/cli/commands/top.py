"""`streamflow top`: a running job's status, refreshed every second until the user presses q."""

from __future__ import annotations

import sys
from typing import Final

from streamflow.cli.exit_codes import ExitCode
from streamflow.cli.parameters import Debug, JobUrl, Timeout, TokenFile

__all__ = ["top"]

_EVERY: Final = 1.0


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
        from streamflow.cli.commands.status import status

        return status(job_url, token_file=token_file, timeout=timeout)

    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from streamflow.cli.terminal.keypress import Keys
    from streamflow.cli.terminal.overview import overview
    from streamflow.cli.watched_job import WatchedJob
    from streamflow.errors import StreamflowError

    job = WatchedJob(job_url, token_file=token_file, timeout=timeout)
    shown = job.look()
    console, ended = Console(highlight=False), ""
    hint = Text("q ends this, not the job", style="dim")
    try:
        with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(Group(overview(shown, job.before), hint), refresh=True)
                if keys.pressed(_EVERY) in ("q", "Q", "\x03"):
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
