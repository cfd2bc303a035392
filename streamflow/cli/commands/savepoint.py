"""`streamflow savepoint`: makes a running job save a full copy of its state to keep."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from streamflow.cli.exit_codes import ExitCode
from streamflow.cli.parameters import Debug, JobUrl, Json, Timeout, TokenFile

__all__ = ["savepoint"]


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
    from streamflow.cli.control_client import ControlClient, place_of

    order = {"target": place_of(target)}
    answer = ControlClient(job_url, token_file=token_file, timeout=timeout).post("/savepoint", order)
    print(json.dumps(answer) if json_ else answer["savepoint"])
    return ExitCode.DONE
