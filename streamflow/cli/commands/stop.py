"""`streamflow stop`: ends a running job cleanly, with its output committed and, with checkpoints, its state saved."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from streamflow.cli.exit_codes import ExitCode

__all__ = ["stop"]


def stop(
    job_url: Annotated[str, Parameter(name="JOB_URL")],
    /,
    *,
    drain: bool = False,
    savepoint: str | None = None,
    token_file: str | None = None,
    timeout: str = "10m",
    json_: Annotated[bool, Parameter(name="--json")] = False,
    debug: bool = False,
) -> int:
    """Stop a running job.

    Parameters
    ----------
    job_url
        Address of the job's control server, as printed by `streamflow run --control-port`.
    drain
        End the input: open windows give their results, and the job cannot be continued.
    savepoint
        Place for a full copy of the last checkpoint: a folder or an object store's URL, as the job sees it.
    token_file
        A file with the job's control token; otherwise STREAMFLOW_CONTROL_TOKEN.
    timeout
        Longest wait for the job.
    json_
        Print the job's result as JSON.
    debug
        Show the traceback of an error.
    """
    import msgspec

    from streamflow.cli.control_client import ControlClient, place_of
    from streamflow.cli.ending import ending
    from streamflow.observe.status import JobResult

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
