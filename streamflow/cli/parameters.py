"""Parameters of several commands, each with its line of help; the option `--set key=value`, repeated, as a mapping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from streamflow.errors import ConfigError

__all__ = [
    "Debug",
    "Directory",
    "JobUrl",
    "Json",
    "Number",
    "OneJob",
    "Pairs",
    "Target",
    "Timeout",
    "TokenFile",
    "assignments",
]

Target = Annotated[
    str,
    Parameter(name="FILE[:job]", help="Python file with the job; FILE:job names one of several jobs."),
]
Pairs = Annotated[
    tuple[str, ...],
    Parameter(
        help="key=value, repeatable: a runtime setting (restart_delay=20ms), or one that the file reads "
        "with sf.setting."
    ),
]
Directory = Annotated[
    str,
    Parameter(
        name="DIR", help="The checkpoint directory: a folder or an object store's URL (s3://bucket/folder)."
    ),
]
Number = Annotated[
    str | None, Parameter(name="NUMBER", help="Number of the checkpoint; by default the newest.")
]
OneJob = Annotated[str | None, Parameter(help="Job whose checkpoints are meant, if there are several.")]
JobUrl = Annotated[
    str,
    Parameter(
        name="JOB_URL",
        help="Address of the job's control server, as printed by `streamflow run --control-port`.",
    ),
]
TokenFile = Annotated[
    str | None,
    Parameter(help="A file with the job's control token; otherwise STREAMFLOW_CONTROL_TOKEN."),
]
Timeout = Annotated[str, Parameter(help="Longest wait for the job.")]
Json = Annotated[bool, Parameter(name="--json", help="Print the result as JSON on stdout.")]
Debug = Annotated[bool, Parameter(help="Show the traceback of an error.")]


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """Keys to values; of a repeated key the last value counts. Raises ConfigError for a text without `=`.

    >>> assignments(["restart_delay=20ms", "input=a=b.csv"])
    {'restart_delay': '20ms', 'input': 'a=b.csv'}
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {text!r} is not key=value", hint="write it like --set restart_delay=20ms"
            )
        found[key.strip().replace("-", "_")] = value.strip()
    return found
