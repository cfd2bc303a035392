"""`streamflow savepoint`: makes a running job save a full copy of its state to keep."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from streamflow.cli.exit_codes import ExitCode

__all__ = ["savepoint"]


def savepoint(
    job_url: Annotated[str, Parameter(name="JOB_URL")],
    target: Annotated[str, Parameter(name="TARGET")],
    /,
    *,
    token_file: str | None = None,
    timeout: str = "10m",
    json_: Annotated[bool, Parameter(name="--json")] = False,
    debug: bool = False,
) -> int:
    """Take a savepoint of a running job: a checkpoint, copied whole to another place.

    Parameters
    ----------
    job_url
        Address of the job's control server, as printed by `streamflow run --control-port`.
    target
        A folder or an object store's URL (s3://bucket/folder), as the job sees it.
    token_file
        A file with the job's control token; otherwise STREAMFLOW_CONTROL_TOKEN.
    timeout
        Longest wait for the job.
    json_
        Print the answer as JSON.
    debug
        Show the traceback of an error.
    """
    from streamflow.cli.control_client import ControlClient, place_of

    order = {"target": place_of(target)}
    answer = ControlClient(job_url, token_file=token_file, timeout=timeout).post("/savepoint", order)
    print(json.dumps(answer) if json_ else answer["savepoint"])
    return ExitCode.DONE
