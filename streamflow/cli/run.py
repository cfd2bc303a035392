"""`streamflow run`: loads a job from a file, runs it, shows how it goes, says how it went."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from streamflow.cli import figures
from streamflow.cli.assignments import assignments
from streamflow.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from streamflow.cli.drive import Outcome

__all__ = ["run"]


def run(
    target: Annotated[str, Parameter(name="FILE[:job]")],
    /,
    *,
    mode: str | None = None,
    parallelism: str | None = None,
    metrics_port: str | None = None,
    set: tuple[str, ...] = (),
    quiet: bool = False,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    debug: bool = False,
) -> int:
    """Run a job.

    Parameters
    ----------
    target
        The Python file that holds the job; with several jobs in it, which one.
    mode
        auto (batch if every source ends, else streaming), streaming, micro-batch or batch.
    parallelism
        Subtasks per operator.
    metrics_port
        Serve Prometheus' metrics on this port; 0 takes any free one.
    set
        key=value, as often as needed: a runtime setting (restart_delay=20ms) or one the file asks for (sf.setting).
    quiet
        Show no progress and no summary.
    json_
        Print the result as JSON on stdout.
    debug
        Show the traceback of an error.
    """
    from streamflow.cli.drive import drive
    from streamflow.cli.loading import load
    from streamflow.cli.progress import progress_for

    given = assignments(set)
    job, arguments = load(target, given)
    flags = {"mode": mode, "parallelism": parallelism, "metrics_port": metrics_port}
    arguments.update({name: value for name, value in flags.items() if value is not None})
    with progress_for(sys.stderr, quiet=quiet) as progress:
        outcome = drive(job, arguments, progress.update)
    if json_:
        print(json.dumps(outcome.result.as_dict()))
    if not quiet:
        print(_ending(outcome), file=sys.stderr)
    return outcome.exit_code


def _ending(outcome: Outcome) -> str:
    """One line: what was read and written, in which time, and what was late or bad."""
    result = outcome.result
    read = sum(each.records_in for each in result.operators if each.kind == "read")
    written = sum(each.records_in for each in result.operators if each.kind == "write")
    how = (
        "interrupted"
        if outcome.exit_code == ExitCode.INTERRUPTED
        else "stopped"
        if result.stopped
        else "done"
    )
    rate = figures.rate(read / result.duration) if result.duration > 0 else "–"
    parts = [
        f"{figures.count(read)} read",
        f"{figures.count(written)} written",
        f"{result.duration:.2f} s",
        rate,
    ]
    for number, what in (
        (result.late, "late"),
        (result.dropped, "dropped as too late"),
        (result.errors, "bad"),
    ):
        if number:
            parts.append(f"{figures.count(number)} {what}")
    return f"{result.job} {how} ({result.mode}): " + " · ".join(parts)
