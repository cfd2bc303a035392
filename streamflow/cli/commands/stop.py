"""`streamflow stop`: ends a running job cleanly, with its output committed and, with checkpoints, its state saved."""

from __future__ import annotations

import json

from streamflow.cli.exit_codes import ExitCode
from streamflow.cli.parameters import Debug, JobUrl, Json, Timeout, TokenFile

__all__ = ["stop"]


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
