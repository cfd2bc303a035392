"""Random jobs against evaluations in plain Python: five thousand graphs and five thousand windows with triggers, each
run in one random way, and a thousand of both in simulated lives, of graphs also on several processes.

The parts of the search are in `tests/properties` (`graph_*.py`, `trigger_jobs.py`, `pane_laws.py`) and
`tests/simulation` (`graph_lives.py`, `triggered.py`); a failing job is shown with its seed and made small.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure
from reliability.account import Account, workers
from reliability.process import last_said

JOBS = 5_000
LIVES = 1_000
PIECE = 50
TIMEOUT_SECONDS = 900.0


def graphs(account: Account, folder: Path, *, quick: bool = False) -> None:
    """Random job graphs."""
    _search(account, "graphs", "random job graphs", JOBS, quick=quick)
    _search(account, "graph-lives", "random job graphs in simulated lives", LIVES, quick=quick)
    _search(
        account,
        "graph-lives-on-workers",
        "random job graphs in simulated lives on workers",
        LIVES,
        quick=quick,
    )


def triggers(account: Account, folder: Path, *, quick: bool = False) -> None:
    """Windows of all kinds under random triggers."""
    _search(account, "triggers", "random jobs with triggers", JOBS, quick=quick)
    _search(account, "trigger-lives", "random jobs with triggers in simulated lives", LIVES, quick=quick)


def _search(account: Account, kind: str, what: str, count: int, *, quick: bool) -> None:
    count //= 20 if quick else 1
    first = account.seed % 1_000_000_000
    pieces = [(kind, first + start, min(PIECE, count - start)) for start in range(0, count, PIECE)]
    with ThreadPoolExecutor(workers()) as pool:
        wrong = [each for found in pool.map(_searched, pieces) for each in found]
    for each in wrong:
        account.fail(each)
    account.add(
        Figure(what, count, "", "≥", count), Figure(f"{what} with a wrong result", len(wrong), "", "≤", 0)
    )


def _searched(piece: tuple[str, int, int]) -> list[str]:
    kind, first, count = piece
    try:
        said = last_said("reliability.job_search", piece, timeout=TIMEOUT_SECONDS)
    except RuntimeError as error:
        return [f"{kind} {first} to {first + count - 1}: {error}"]
    wrong: list[str] = said["wrong"]
    return wrong
