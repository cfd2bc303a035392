"""Batches and values as no client writes them, without a broker: each is read as plain decoders read it, is a
record's error, or is damage; nothing hangs. The inputs and the checks are in tests/kafka/fuzzed_batches and
fuzzed_values."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure
from reliability.account import Account, workers
from tests.kafka.fuzzed_batches import check
from tests.kafka.fuzzed_values import check_value

BATCHES, VALUES = 350_000, 250_000
SHARE = 5_000
"""Inputs that a process takes on at a time."""
SLOWEST = 1.0
"""Seconds for one input, beyond which it counts as one that hangs."""


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    base = account.seed << 24
    inputs = hanging = 0
    outcomes: Counter[str] = Counter()
    with ProcessPoolExecutor(workers()) as pool:
        for kind, count in (("batch", BATCHES), ("value", VALUES)):
            starts = range(base, base + (count // 50 if quick else count), SHARE)
            for found, wrong, slow in pool.map(partial(_share, kind), starts):
                inputs += SHARE
                outcomes += found
                hanging += slow
                for what in wrong:
                    account.fail(what)
    account.note(", ".join(f"{what}: {count:,}" for what, count in sorted(outcomes.items())))
    account.add(
        Figure("fuzzed batches and values", inputs, "inputs", "≥", 0 if quick else BATCHES + VALUES),
        Figure("fuzzed inputs that took a second", hanging, "", "≤", 0),
    )


def _share(kind: str, start: int) -> tuple[Counter[str], list[str], int]:
    """Outcomes, what was wrong, and how many took too long."""
    checked: Callable[[int], str] = check if kind == "batch" else check_value
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    slow = 0
    for seed in range(start, start + SHARE):
        began = time.process_time()
        try:
            outcomes[checked(seed)] += 1
        except Exception as error:  # noqa: BLE001 — the others go on, and what is wrong is told
            wrong.append(f"{kind} {seed}: {type(error).__name__}: {error}"[:1_000])
            print(wrong[-1], file=sys.stderr, flush=True)
        slow += time.process_time() - began > SLOWEST
    return outcomes, wrong, slow
