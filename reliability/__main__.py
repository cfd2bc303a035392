"""`python -m reliability [PART …]`: breaks things on purpose and says what came of it; exit code 1 on a failure."""

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from reliability import corruption, disk, kills, rescaling, simulation, stopping
from reliability.account import Account

Part = Callable[..., None]

PARTS: dict[str, Part] = {
    "kills": kills.run,
    "simulation": simulation.run,
    "corruption": corruption.run,
    "disk": disk.run,
    "rescale": rescaling.run,
    "stop": stopping.run,
}
SEED = 20261121


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; without any, all"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--folder", type=Path, help="work here and leave what failed behind")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    account = Account(options.seed)
    with TemporaryDirectory(prefix="reliability-") as temporary:
        for name in options.parts or PARTS:
            _run(name, account, options.folder or Path(temporary), quick=options.quick)
    print(account.markdown())
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


if __name__ == "__main__":
    sys.exit(main())
