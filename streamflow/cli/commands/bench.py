"""`streamflow bench`: the benchmarks of the checkout, with the peers that are installed.

The harness and its data generator live in `benchmarks/` at the root of a checkout and are not part of the
installed package; outside of a checkout the command says so and ends with 2.
"""

import importlib
import json as json_text
import sys
from pathlib import Path
from typing import Any

HARNESS = Path("benchmarks", "harness.py")


def bench(
    name: str | None = None,
    *,
    events: int = 1_000_000,
    rounds: int = 3,
    peers: bool = True,
    minutes: float = 10.0,
    json: bool = False,
    write: bool = False,
) -> int:
    """Run the benchmarks: streamflow and each installed peer in turn, results checked, ratios and targets.

    Parameters
    ----------
    name
        W1, W1p, W1py, W1fn, W2, W3, W4, memory, latency, startup, large_state, checkpoints or growth, or K1,
        kafka-latency or kafka-soak, which start a Kafka broker; without it all of them but kafka-soak.
    events
        Number of events that the workloads read.
    rounds
        Rounds per pair, after a warm-up.
    peers
        Also run the peers.
    minutes
        Minutes for which kafka-soak holds its rate.
    json
        Print JSON instead of tables.
    write
        Append the tables to benchmarks/RESULTS.md.
    """
    root = checkout()
    if root is None:
        print(
            "streamflow bench needs a checkout: the benchmarks are not part of the installed package.\n"
            "Clone the repository and run it from there.",
            file=sys.stderr,
        )
        return 2
    if events < 1 or rounds < 1 or minutes <= 0:
        print("--events and --rounds must be at least 1, --minutes more than 0", file=sys.stderr)
        return 2
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    harness: Any = importlib.import_module("benchmarks.harness")
    options = harness.Options(events=events, rounds=rounds, peers=peers, minutes=minutes)
    try:
        report = harness.run(name, options, say=_say)
    except ValueError as wrong_name:
        print(wrong_name, file=sys.stderr)
        return 2
    print(json_text.dumps(report.as_json(), default=str) if json else report.markdown())
    if write:
        report.append_to_results()
    return 1 if report.failures else 0


def checkout() -> Path | None:
    """The checkout's root: the working directory or one above it, or the place of this package (editable install)."""
    here, package = Path.cwd(), Path(__file__).resolve().parents[2]
    for root in (here, *here.parents, package):
        if (root / HARNESS).is_file() and (root / "streamflow" / "__init__.py").is_file():
            return root
    return None


def _say(line: str) -> None:
    print(line, file=sys.stderr)
