"""`streamflow plan`: the plan of a job, without running it."""

from __future__ import annotations

from typing import Any

from streamflow.cli.failure import ExitCode
from streamflow.cli.parameters import Debug, Pairs, Target, assignments
from streamflow.errors import ConfigError, unknown_name

__all__ = ["plan"]

_FORMATS = ("text", "mermaid", "svg")


def plan(
    target: Target,
    /,
    *,
    physical: bool = False,
    format: str = "text",
    parallelism: str | None = None,
    set: Pairs = (),
    debug: Debug = False,
) -> int:
    """Show a job's plan without running it.

    Parameters
    ----------
    physical
        Show the tasks as they would run (chains, exchanges, parallelism), not the operators as written.
    format
        text, mermaid for a diagram in Markdown, or svg for a picture.
    parallelism
        Subtasks per operator, for --physical.
    """
    from streamflow.cli.loading import load

    if format not in _FORMATS:
        message, hint = unknown_name("format", format, _FORMATS)
        raise ConfigError(message, hint=hint)
    job, arguments = load(target, assignments(set), stdout=False)
    if parallelism is not None:
        arguments["parallelism"] = parallelism
    settings: Any = arguments  # texts, which are parsed like those of the environment
    shown = job.plan(physical=physical, **settings)
    print({"text": shown.text, "mermaid": shown.mermaid, "svg": shown.svg}[format]())
    return ExitCode.DONE
