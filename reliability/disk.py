"""Full and failing disks: no wrong result, a clear error, and the job goes on when there is space again.

Three ways: a disk port that refuses, call by call, for each of a run's first calls; a limit on the size of files, which
RocksDB meets as well; and a small file system that is filled up while a job runs, then emptied (as root only).
"""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from reliability.account import Account
from reliability.faulty_disk import FAULTS, Fault, FaultyDisk
from reliability.flow import Place, events, model, write_input
from reliability.inside import run_to_end
from reliability.process import Ended, Victim
from reliability.verdict import judge
from streamflow.errors import StreamflowError
from streamflow.runtime.ports import Ports

EVENTS = 4_000
FIRST_CALLS = 50
LENGTHS = {"full": 5, "broken": 1, "unsynced": 1}
LIMITS = (1_000, 4_000, 16_000, 64_000, 256_000)
SMALL_BYTES = 48 << 20
PAUSE_SECONDS = 0.04
FULL_SECONDS = 1.5


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    frame = events(EVENTS, account.seed)
    expected = model(frame)
    outcomes: Counter[str] = Counter()
    for fault in FAULTS:
        for first in range(1, FIRST_CALLS + 1, 6 if quick else 1):
            place = Place(folder / f"disk-{fault}-{first}")
            write_input(place, frame)
            outcomes[_refusing(account, place, expected, fault, first)] += 1
    account.add(
        Figure(f"{len(FAULTS)} faults at each of the first {FIRST_CALLS} calls", outcomes.total(), "cases"),
        Figure("wrong results or unclear errors", outcomes["wrong"], "", "≤", 0),
    )  # fmt: skip
    account.note("disk port: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    limited = Counter(_limited(account, folder / f"limit-{limit}", limit) for limit in LIMITS)
    account.add(Figure("limited file sizes: wrong results or unclear errors", limited["wrong"], "", "≤", 0))
    account.note(
        "file sizes limited: " + ", ".join(f"{count} {outcome}" for outcome, count in limited.items())
    )
    with small_file_system(folder / "small") as there:
        if not there:
            account.note("no small file system: mounting one needs root")
            return
        account.add(
            Figure(
                "file system full for a while, right result", _filled(account, folder / "small"), "", "≥", 1
            )
        )


def _refusing(account: Account, place: Place, expected: dict[str, Any], fault: Fault, first: int) -> str:
    """A run over a refusing disk, and if it fails another one when the disk is well."""
    disk = FaultyDisk(fault, first, LENGTHS[fault])
    ports = Ports(disk=disk)
    what = f"{fault} at call {first}"
    try:
        run_to_end(
            place, ports=ports, pause=PAUSE_SECONDS, batch_rows=128, restart="fixed", restart_attempts=3
        )
        outcome = "went on in the process" if disk.refused else "not met"
    except StreamflowError as error:
        outcome = "failed clearly, next start went on"
        if not str(error) or (verdict := judge(place, expected, ended=False)).surplus:
            account.fail(f"{what}, {place.root}: {error}; {verdict}")
            return "wrong"
        try:
            run_to_end(place, batch_rows=8192)
        except Exception as again:  # noqa: BLE001 — anything is a finding
            account.fail(f"{what}, {place.root}: after it had been {error}, the next start: {again!r}")
            return "wrong"
    except Exception as error:  # noqa: BLE001 — anything that is not a clear error is a finding
        account.fail(f"{what}, {place.root}: {type(error).__name__}: {error}")
        return "wrong"
    finally:
        ports.close()
    verdict = judge(place, expected)
    if not verdict.right:
        account.fail(f"{what}, {place.root}: {verdict}")
        return "wrong"
    shutil.rmtree(place.root)
    return outcome


def _limited(account: Account, root: Path, limit: int) -> str:
    """A process none of whose files may exceed a size; then one without that limit."""
    place, frame = Place(root), events(20_000, account.seed)
    write_input(place, frame)
    limited = Victim.start(place, pause=0.01, file_limit=limit).wait()
    clear = limited.code in (0, 1) and "Traceback" not in limited.errors
    ended = limited if limited.code == 0 else Victim.start(place, batch_rows=8192).wait()
    return _outcome(account, f"no file above {limit} bytes", place, frame, clear, [limited, ended])


def _filled(account: Account, root: Path) -> int:
    """A job on a file system that is full for a while; 1 if the result is right in the end."""
    place, frame = Place(root / "job"), events(60_000, account.seed)
    write_input(place, frame)
    victim = Victim.start(place, pause=PAUSE_SECONDS, restart="fixed", restart_attempts=100)
    until = time.monotonic() + 20
    while len(place.published) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    ballast = root / "ballast"
    _fill(ballast)
    time.sleep(FULL_SECONDS)
    ballast.unlink()
    first = victim.wait()
    last = first if first.code == 0 else Victim.start(place, batch_rows=8192).wait()
    clear = first.code in (0, 1) and "Traceback" not in first.errors
    outcome = _outcome(account, "file system full", place, frame, clear, [first, last])
    failed = "" if first.code == 0 else f" ({first.get('message')})"
    account.note(f"file system full for {FULL_SECONDS} s: {outcome}{failed}")
    return int(outcome != "wrong")


def _outcome(account: Account, what: str, place: Place, frame: Any, clear: bool, ends: list[Ended]) -> str:
    verdict = judge(place, model(frame))
    if not clear or ends[-1].code != 0 or not verdict.right:
        account.fail(f"{what}, {place.root}: {verdict}; " + "; then ".join(str(end) for end in ends))
        return "wrong"
    return "went on in the process" if ends[0].code == 0 else "failed clearly, next start went on"


def _fill(path: Path) -> None:
    """Writes until nothing more fits."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(64 << 10)):
            continue


@contextmanager
def small_file_system(path: Path) -> Iterator[bool]:
    """A file system in memory at this place, where this process may mount one."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(path)]
    there = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", str(path)], capture_output=True, check=False)
