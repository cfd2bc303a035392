"""`streamflow status`: the status of a running job, once."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Final

from streamflow.cli.exit_codes import ExitCode
from streamflow.cli.parameters import Debug, JobUrl, Json, Timeout, TokenFile

__all__ = ["status"]

_BETWEEN_LOOKS: Final = 1.0
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
    from streamflow.cli.watched_job import WatchedJob

    job = WatchedJob(job_url, token_file=token_file, timeout=timeout)
    now = job.look()
    if json_:
        print(json.dumps(asdict(now)))
        return ExitCode.DONE
    from rich.console import Console

    from streamflow.cli.terminal.overview import overview

    time.sleep(_BETWEEN_LOOKS)  # rates are those of this second
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(overview(job.look(), job.before))
    return ExitCode.DONE
