"""`python -m reliability [PART …]`: breaks things on purpose and says what came of it; exit code 1 on a failure."""

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from reliability import (
    checkpoint_fuzz,
    corruption,
    disk,
    file_fuzz,
    job_searches,
    kills,
    output,
    rescaling,
    simulation,
    stopping,
)
from reliability.account import Account, workers
from reliability.kafka import broker_kills, end_transactions, fuzz, large_epoch, poison, zombie
from reliability.kafka import kills as kafka_kills
from reliability.process import ROOT
from reliability.processes import cuts, faults

Part = Callable[..., None]

SEED = 20261121
WIDE: dict[str, Part] = {
    "kills": kills.run,
    "simulation": simulation.run,
    "graphs": job_searches.graphs,
    "triggers": job_searches.triggers,
    "kafka-kills": kafka_kills.run,
    "processes": faults.run,
    "processes-cuts": cuts.run,
    "fuzz-kafka": fuzz.run,
}
"""Parts that keep every core busy themselves."""
NARROW: dict[str, Part] = {
    "corruption": corruption.run,
    "disk": disk.run,
    "output": output.run,
    "fuzz-files": file_fuzz.run,
    "fuzz-checkpoints": checkpoint_fuzz.run,
    "rescale": rescaling.run,
    "stop": stopping.run,
    "kafka-broker": broker_kills.run,
    "kafka-proxy": end_transactions.run,
    "kafka-zombie": zombie.run,
    "kafka-poison": poison.run,
    "kafka-epoch": large_epoch.run,
}
"""Parts of one process: several of them run side by side."""
PARTS = WIDE | NARROW
GROUPS = {"kafka": [name for name in PARTS if name.startswith("kafka-")]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join([*PARTS, *GROUPS])}; none: all"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--folder", type=Path, help="work here and leave what failed behind")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/RESULTS.md")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    chosen = [name for part in options.parts or PARTS for name in GROUPS.get(part, [part])]
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    account, started = Account(options.seed), time.monotonic()
    with TemporaryDirectory(prefix="reliability-") as temporary:
        folder = options.folder or Path(temporary)
        narrow = [name for name in chosen if name in NARROW]
        together = narrow if len(narrow) > 1 and workers() > 1 else []
        for name in chosen:
            if name not in together:
                _run(name, account, folder, quick=options.quick)
        _side_by_side(together, account, folder, quick=options.quick)
    account.whole = time.monotonic() - started
    print(json.dumps(account.as_json()) if options.json else account.markdown())
    if options.write:
        account.append_to_results()
    return 1 if account.failed else 0


def _run(name: str, account: Account, folder: Path, *, quick: bool) -> None:
    with account.part(name):
        try:
            PARTS[name](account, folder, quick=quick)
        except Exception as error:  # noqa: BLE001 — the other parts go on, and the exit code says it
            traceback.print_exc()
            account.fail(f"{type(error).__name__}: {error}")


def _side_by_side(names: Sequence[str], account: Account, folder: Path, *, quick: bool) -> None:
    """Each part in a process of its own, as many at a time as there are workers."""
    with ThreadPoolExecutor(workers()) as pool:
        parts = pool.map(partial(_in_a_process, seed=account.seed, folder=folder, quick=quick), names)
        for name, part in zip(names, parts, strict=True):
            if part is None:
                account.failures.append(f"{name}: its process gave no account")
            else:
                account.merge(part)


def _in_a_process(name: str, *, seed: int, folder: Path, quick: bool) -> Account | None:
    command = [
        sys.executable,
        "-m",
        "reliability",
        name,
        "--json",
        "--seed",
        str(seed),
        "--folder",
        str(folder),
    ]
    ended = subprocess.run(
        [*command, *(["--quick"] if quick else [])], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        return Account.from_json(json.loads(ended.stdout))
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
