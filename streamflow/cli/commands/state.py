"""`streamflow state`: lists, queries and writes to a file the state in a checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from streamflow.cli.failure import ExitCode
from streamflow.cli.parameters import Debug, Json, OneJob
from streamflow.cli.terminal import figures
from streamflow.cli.terminal.figures import text_table
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from streamflow.savepoints.reading import SavedState

__all__ = ["state"]


def state(
    checkpoint: Annotated[str, Parameter(name="CHECKPOINT")],
    /,
    *,
    operator: str | None = None,
    query: str | None = None,
    to: str | None = None,
    job: OneJob = None,
    json_: Json = False,
    debug: Debug = False,
) -> int:
    """Read the state in a checkpoint.

    Parameters
    ----------
    checkpoint
        A checkpoint directory or object store (its newest checkpoint is read), or DIR#NUMBER.
    operator
        Operator whose state to show; without it and without a query, the states are listed.
    query
        SQL over tables named like the states, with --operator that one's: select * from panes where records > 10.
        Of several operators with a state of one name: "operator.state", in quotes.
    to
        Write the result to this file: .parquet, .csv or .ndjson.
    """
    from streamflow.cli.state_output import answer, check_target, shown, write
    from streamflow.savepoints.reading import read_checkpoint

    if to is not None:
        check_target(to)
    saved = read_checkpoint(checkpoint, job=job)
    if operator is None and query is None:
        if to is not None:
            raise ConfigError("nothing to write", hint="give --operator ID, or --query 'select …'")
        print(_listed_as_json(saved) if json_ else _listed(saved))
        return ExitCode.DONE
    if query is not None:
        frames = {"": answer(saved, query, operator)}
    else:
        assert operator is not None
        frames = {name: frame for name, frame in saved.state(operator).items() if to is None or frame.height}
    if to is not None:
        if len(frames) != 1:
            names = ", ".join(frames) or "none"
            raise ConfigError(
                f"operator {operator} has {len(frames)} states that are not empty: {names}",
                hint='choose one with --query "select * from …"',
            )
        frame = next(iter(frames.values()))
        write(frame, to)
        print(f"{figures.count(frame.height)} rows in {to}")
    else:
        print(shown(frames, as_json=json_))
    return ExitCode.DONE


def _listed(saved: SavedState) -> str:
    heading = f"checkpoint {saved.number} of {saved.job}"
    if saved.manifest.finished:
        return f"{heading}: the job has ended and needs its state no more"
    if not saved.operators:
        return f"{heading}: no operator has state"
    rows = [
        [each.id, each.kind, str(each.parallelism), figures.size(each.bytes), ", ".join(each.states)]
        for each in saved.operators.values()
    ]
    header = ["operator", "kind", "subtasks", "size", "states"]
    return f"{heading}\n\n" + text_table(header, rows, right=["subtasks", "size"])


def _listed_as_json(saved: SavedState) -> str:
    operators = [
        {
            "operator": each.id,
            "kind": each.kind,
            "subtasks": each.parallelism,
            "bytes": each.bytes,
            "states": list(each.states),
            "signature": each.signature,
        }
        for each in saved.operators.values()
    ]
    return json.dumps({"job": saved.job, "number": saved.number, "operators": operators})
