"""Some random jobs in a process of its own, `python -m reliability.job_search KIND FIRST COUNT`: a line of JSON."""

import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.properties import graph_jobs, trigger_jobs
from tests.simulation import graph_lives, triggered

_LIVES = 3
"""The number of simulated lives of a job."""


def _of_one(searched: Callable[[int, Path], str | None]) -> Callable[[int, Path], list[str]]:
    return lambda seed, folder: [wrong for wrong in [searched(seed, folder)] if wrong is not None]


KINDS: dict[str, Callable[[int, Path], list[str]]] = {
    "graphs": _of_one(graph_jobs.searched),
    "triggers": _of_one(trigger_jobs.searched),
    "graph-lives": lambda seed, folder: graph_lives.failures(seed, _LIVES),
    "graph-lives-on-workers": lambda seed, folder: graph_lives.failures(seed, _LIVES, 3),
    "trigger-lives": lambda seed, folder: triggered.failures(seed, _LIVES),
}


def main(kind: str, first: int, count: int) -> None:
    logging.disable(logging.CRITICAL)  # crashes are meant, and say so
    warnings.simplefilter("ignore")
    with TemporaryDirectory(prefix="jobs-") as folder:
        found = [KINDS[kind](seed, Path(folder) / str(seed)) for seed in range(first, first + count)]
    print(json.dumps({"jobs": count, "wrong": [wrong for each in found for wrong in each]}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
