"""Some random job graphs in a process of its own, `python -m reliability.graph_search FIRST COUNT`: a line of JSON."""

import json
import logging
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.properties.graph_jobs import searched


def main(first: int, count: int) -> None:
    logging.disable(logging.CRITICAL)  # crashes are meant, and say so
    warnings.simplefilter("ignore")
    with TemporaryDirectory(prefix="graphs-") as folder:
        found = [searched(seed, Path(folder) / str(seed)) for seed in range(first, first + count)]
    print(json.dumps({"graphs": count, "wrong": [wrong for wrong in found if wrong is not None]}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
