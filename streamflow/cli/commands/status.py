"""`streamflow status`: how a running job is doing, once."""

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
    """Say how a running job is doing.

    Parameters
    ----------
    job_url
        Where the job answers, as `streamflow run --control-port` says it.
    token_file
        A file with the job's control token; otherwise STREAMFLOW_CONTROL_TOKEN.
    timeout
        How long to wait for the job.
    json_
        Print all that the job says as JSON.
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
