"""The words of a process under fire, which its parent reads: lines of JSON on stdout."""

import json
import sys
from collections.abc import Coroutine
from typing import Any

from streamflow.api.running import run_on_loop
from streamflow.errors import StreamflowError


def say(**what: object) -> None:
    print(json.dumps(what, default=str), flush=True)


def run_saying(job: Coroutine[Any, Any, int]) -> int:
    """The exit code of a job under fire; says how it failed, if it did."""
    try:
        return run_on_loop(job)
    except StreamflowError as error:
        say(ended="failed", error=type(error).__name__, message=str(error))
        print(error, file=sys.stderr)
        return 1
