"""`python -m benchmarks [NAME]`: the harness with all its options."""

import argparse
import json
import sys

from benchmarks.harness import NAMES, Options, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="one benchmark; without it all of them")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--only", help="only this peer")
    parser.add_argument(
        "--slope", action="store_true", help="also over a fifth of the events: ratios without start-up"
    )
    parser.add_argument("--mode", default="streaming", choices=("streaming", "micro-batch", "batch", "auto"))
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long kafka-soak holds its rate")
    parser.add_argument(
        "--before", metavar="COMMIT", help="instead of peers: the same processes of an earlier commit in turn"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="append to RESULTS.md")
    chosen = vars(parser.parse_args())
    name, as_json, write = (chosen.pop(option) for option in ("name", "json", "write"))
    report = run(name, Options(**chosen), say=lambda line: print(line, file=sys.stderr))
    print(json.dumps(report.as_json(), default=str) if as_json else report.markdown())
    if write:
        report.append_to_results()
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
