"""`streamflow checkpoints`: lists the checkpoints of a directory, shows and verifies one, and removes old ones."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from streamflow.cli.failure import ExitCode
from streamflow.cli.parameters import Debug, Directory, Json, Number, OneJob
from streamflow.errors import ConfigError
from streamflow.time.clock import SystemClock

if TYPE_CHECKING:
    from streamflow.cli.checkpoint_checks import Say

__all__ = ["checkpoints"]

checkpoints: Final = App(
    name="checkpoints",
    help="List, show, verify and remove checkpoints.",
    help_format="plaintext",
    version_flags=[],
    result_action="return_value",
    default_parameter=Parameter(negative="", show_default=False),
)


@checkpoints.command(name="list", sort_key=0)
def list_(
    directory: Directory, /, *, job: str | None = None, json_: Json = False, debug: Debug = False
) -> int:
    """List the checkpoints of a directory, newest first.

    Parameters
    ----------
    job
        Job whose checkpoints to list; by default all jobs'.
    """
    from streamflow.cli.checkpoint_listing import COLUMNS, RIGHT, cells, listed
    from streamflow.cli.terminal.figures import text_table
    from streamflow.savepoints.place import open_jobs

    rows = [row for store in open_jobs(directory, job) for row in listed(store)]
    now = SystemClock().now()
    if json_:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(text_table(COLUMNS, [cells(row, now) for row in rows], right=RIGHT))
    return ExitCode.DONE


@checkpoints.command(sort_key=1)
def show(
    directory: Directory,
    number: Number = None,
    /,
    *,
    job: OneJob = None,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Show the content of a checkpoint; as JSON the manifest, the source positions and the sealed output."""
    from streamflow.cli.checkpoint_details import Details
    from streamflow.savepoints.place import chosen_manifest, open_job

    store = open_job(directory, job)
    details = Details.of(store, chosen_manifest(store, _number(number)))
    print(details.json() if json_ else details.text())
    return ExitCode.DONE


@checkpoints.command(sort_key=2)
def verify(
    directory: Directory,
    number: Annotated[
        Number, Parameter(help="Number of the checkpoint, or all; by default the newest.")
    ] = None,
    /,
    *,
    job: str | None = None,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Read every byte of checkpoints and compare it with its digest. Ends with 1 if anything is damaged.

    Parameters
    ----------
    job
        Job whose checkpoints to read; by default all jobs'.
    """
    from streamflow.cli.checkpoint_checks import check, verdict
    from streamflow.savepoints.place import open_jobs

    chosen = None if number in (None, "all") else _number(number)
    checked = [
        each
        for store in open_jobs(directory, job)
        for each in check(store, chosen, all_=number == "all", say=_progress(json_))
    ]
    print(json.dumps(checked) if json_ else "\n".join(map(verdict, checked)))
    return ExitCode.FAILED if any(each["problems"] for each in checked) else ExitCode.DONE


@checkpoints.command(sort_key=3)
def prune(
    directory: Directory,
    /,
    *,
    keep: str,
    job: OneJob = None,
    yes: bool = False,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Remove old checkpoints, and files that no checkpoint uses any more. Savepoints stay.

    Parameters
    ----------
    keep
        Number of the newest checkpoints to keep. One of the generation before is kept as well.
    yes
        Remove them; without it, only list them.
    """
    from streamflow.cli.checkpoint_checks import outdated
    from streamflow.savepoints.place import open_job

    if not keep.isdecimal() or int(keep) < 1:
        raise ConfigError(f"--keep is {keep!r}", hint="keep at least 1")
    store = open_job(directory, job, keep=int(keep))
    removed = store.retain() if yes else outdated(store, int(keep))
    if json_:
        print(json.dumps({"job": store.job, "removed" if yes else "would_remove": removed}))
    elif not removed:
        print(f"{store.job}: nothing to remove")
    else:
        numbers = ", ".join(map(str, removed))
        print(
            f"{store.job}: removed {numbers}"
            if yes
            else f"{store.job}: would remove {numbers}; do it with --yes"
        )
    return ExitCode.DONE


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigError(
            f"{text!r} is not a checkpoint's number", hint="see: streamflow checkpoints list DIR"
        )
    return int(text)


def _progress(silent: bool) -> Say:
    """Shows progress on a line of stderr, in a terminal only."""
    terminal = sys.stderr.isatty() and not silent

    def say(text: str) -> None:
        if terminal:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)

    return say
