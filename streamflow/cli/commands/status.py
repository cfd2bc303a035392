"""`streamflow status`: the status of a running job, once."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Annotated, Final

from cyclopts import Parameter

from streamflow.cli.exit_codes import ExitCode

__all__ = ["status"]

_BETWEEN_LOOKS: Final = 1.0
_WIDE: Final = 160


def status(
    job_url: Annotated[str, Parameter(name="JOB_URL")],
    /,
    *,
    token_file: str | None = None,
    timeout: str = "10s",
    json_: Annotated[bool, Parameter(name="--json")] = False,
    debug: bool = False,
) -> int:
    """Show the status of a running job.

    Parameters
    ----------
    job_url
        Address of the job's control server, as printed by `streamflow run --control-port`.
    token_file
        A file with the job's control token; otherwise STREAMFLOW_CONTROL_TOKEN.
    timeout
        Longest wait for the job.
    json_
        Print the whole status as JSON.
    debug
        Show the traceback of an error.
    """
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
