"""`streamflow run`: loads a job from a file, runs it, shows its progress and its result."""

from __future__ import annotations

import json
import logging
import sys
from typing import Final

from streamflow.cli.failure import ExitCode
from streamflow.cli.parameters import Debug, Json, Pairs, Target, assignments

__all__ = ["run"]

_LOG: Final = logging.getLogger("streamflow.cli")


def run(
    target: Target,
    /,
    *,
    mode: str | None = None,
    parallelism: str | None = None,
    runner: str | None = None,
    processes: str | None = None,
    ray_address: str | None = None,
    checkpoint_dir: str | None = None,
    checkpoint_interval: str | None = None,
    restore: str | None = None,
    restart: str | None = None,
    allow_dropped_state: bool = False,
    allow_duplicates: bool = False,
    control_port: str | None = None,
    metrics_port: str | None = None,
    set: Pairs = (),
    quiet: bool = False,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Run a job.

    Parameters
    ----------
    mode
        auto (batch if every source ends, else streaming), streaming, micro-batch or batch.
    parallelism
        Subtasks per operator.
    runner
        Where they run: local (in this process), processes (in workers beside it: for Python functions), or ray (in
        workers on the machines of a cluster of Ray).
    processes
        Number of workers; auto: one for a plan of columns only, else as many as there are cores; with Ray: parallelism.
    ray_address
        Cluster for the runner ray: auto (the one that this machine is in), or HOST:PORT; default: one of this machine.
    checkpoint_dir
        Write checkpoints to this folder or object store (s3://bucket/folder), and continue from the newest one there.
    checkpoint_interval
        Time between checkpoints, like 10s.
    restore
        Where to continue: latest (the newest checkpoint, else the beginning), none, or a checkpoint: DIR or DIR#NUMBER.
    restart
        Restarts after a failure: none, fixed or exponential delays; auto: exponential with checkpoints, else none.
    allow_dropped_state
        Continue although the checkpoint holds state of operators that the job no longer has.
    allow_duplicates
        Continue although the job will publish output again that is already public.
    control_port
        Answer on this port of 127.0.0.1 to `streamflow top`, `status`, `savepoint` and `stop`; 0 takes any free one.
    metrics_port
        Serve /metrics (Prometheus), /healthz and /readyz on this port of 127.0.0.1; 0 takes any free one.
    quiet
        Show no progress, no summary, and log only errors.
    """
    from streamflow.cli.drive import drive
    from streamflow.cli.failure import exit_code_for
    from streamflow.cli.loading import load
    from streamflow.cli.terminal.progress import ending, is_live, progress_for
    from streamflow.config import Settings
    from streamflow.observe.logs import log_to_stderr, reason, told

    given = assignments(set)
    job, arguments = load(target, given, stdout=not json_)
    flags = {
        "mode": mode,
        "parallelism": parallelism,
        "runner": runner,
        "processes": processes,
        "ray_address": ray_address,
        "checkpoint_dir": checkpoint_dir,
        "checkpoint_interval": checkpoint_interval,
        "restore": restore,
        "restart": restart,
        "allow_dropped_state": "true" if allow_dropped_state else None,
        "allow_duplicates": "true" if allow_duplicates else None,
        "control_port": control_port,
        "metrics_port": metrics_port,
    }
    arguments.update({name: value for name, value in flags.items() if value is not None})
    settings = Settings.resolve(arguments)
    as_json, live = settings.log_format == "json", is_live(sys.stderr, settings, quiet=quiet)
    level = settings.log_level or ("error" if quiet else "warning" if live else "info")
    announce = _unsaid if quiet else _logged if as_json else None
    with (
        log_to_stderr(settings.log_format, level, settings.secrets),
        progress_for(sys.stderr, quiet=quiet, live=live) as progress,
    ):
        try:
            outcome = drive(job, arguments, progress.update, announce=announce)
        except Exception as error:
            if not as_json or debug:
                raise
            _LOG.error("job failed", extra=told(error=reason(error), hint=getattr(error, "hint", None)))
            return exit_code_for(error)
    if json_:
        print(json.dumps(outcome.result.as_dict()))
    if not quiet and not as_json:
        interrupted = outcome.exit_code == ExitCode.INTERRUPTED
        print(ending(outcome.result, interrupted=interrupted), file=sys.stderr)
    return outcome.exit_code


def _unsaid(text: str) -> None:
    """Prints nothing, for --quiet."""


def _logged(text: str) -> None:
    _LOG.info(text)
