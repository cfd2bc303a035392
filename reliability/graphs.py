"""Five thousand random job graphs, each run in one random way, against an evaluation in plain Python.

The parts of the search are in `tests/properties/graph_*.py`; a failing graph is shown with its seed and made small.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure
from reliability.account import Account, workers
from reliability.process import last_said

GRAPHS = 5_000
PIECE = 100
TIMEOUT_SECONDS = 600.0


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    count = GRAPHS // (20 if quick else 1)
    first = account.seed % 1_000_000_000
    pieces = [(first + start, min(PIECE, count - start)) for start in range(0, count, PIECE)]
    with ThreadPoolExecutor(workers()) as pool:
        wrong = [each for found in pool.map(_searched, pieces) for each in found]
    for each in wrong:
        account.fail(each)
    account.add(
        Figure("random job graphs", count, "", "≥", count),
        Figure("random job graphs with a wrong result", len(wrong), "", "≤", 0),
    )


def _searched(piece: tuple[int, int]) -> list[str]:
    try:
        said = last_said("reliability.graph_search", piece, timeout=TIMEOUT_SECONDS)
    except RuntimeError as error:
        return [f"graphs {piece[0]} to {sum(piece) - 1}: {error}"]
    wrong: list[str] = said["wrong"]
    return wrong
