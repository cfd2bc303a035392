"""The `streamflow` command: passes arguments to a command and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, Parameter

from streamflow.cli.failure import ExitCode, report
from streamflow.cli.terminal.surroundings import make_fit

__all__ = ["app", "main"]


_COMMANDS: Final = {
    "demo": "Run the bundled job on real flight delays, live.",
    "run": "Run the job in a Python file.",
    "plan": "Show a job's plan without running it.",
    "status": "Show the status of a running job.",
    "top": "Watch a running job, live.",
    "why": "Say what the results of a running job wait for.",
    "stop": "Stop a running job cleanly.",
    "checkpoints": "List, show, verify and remove checkpoints.",
    "savepoint": "Save a full copy of a running job's state.",
    "rescale": "Give a running job another number of subtasks.",
    "simulate": "Test a job with seeded crashes, restores and failing disks, against a run without.",
    "state": "Read a job's state from a checkpoint.",
    "bench": "Measure throughput, memory and latency.",
}
_REMOTE: Final = ("status", "top", "why", "stop", "savepoint", "rescale")


def _version() -> str:
    from streamflow.distribution import __version__

    return f"streamflow {__version__}"


app = App(
    name="streamflow",
    help="A stream processor for Python: event-time jobs as streaming, micro-batch or batch.",
    help_format="plaintext",
    version=_version,
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=False),
)
for _place, (_name, _help) in enumerate(_COMMANDS.items()):
    # By path, so that one command's imports cost the others nothing; the help likewise needs no import.
    _module = "remote" if _name in _REMOTE else _name
    app.command(f"streamflow.cli.commands.{_module}:{_name}", name=_name, help=_help, sort_key=_place)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code; never raises."""
    if argv is None:
        make_fit()
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        print(f"error: {str(error).strip()}\n  hint: see {_command(tokens)} --help", file=sys.stderr)
        return ExitCode.USAGE
    except BrokenPipeError:
        # The reader (`| head`) has gone. Text still flushed at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except BaseException as error:  # noqa: BLE001 - the outermost place: everything is told here
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            return ExitCode.FAILED  # rich has met the same, and has done the same
        return report(error, debug="--debug" in tokens)
    return int(code) if code is not None else ExitCode.DONE


def _command(tokens: Sequence[str]) -> str:
    """The command that was meant, for the hint."""
    known = tokens and tokens[0] in _COMMANDS
    return f"streamflow {tokens[0]}" if known else "streamflow"


if __name__ == "__main__":
    sys.exit(main())
