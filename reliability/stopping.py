"""Being told to stop, and being thought dead: SIGTERM takes a final checkpoint, a frozen process keeps its job."""

import shutil
import signal
import time
from pathlib import Path

from benchmarks.figures import Figure
from reliability.account import Account, percentile
from reliability.flow import Place, events, model, write_input
from reliability.process import Victim
from reliability.verdict import judge

EVENTS = 30_000
STOPS = 6
PAUSE_SECONDS = 0.05
STOPS_WITHIN_SECONDS = 5.0


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    stops = 2 if quick else STOPS
    seconds, replayed = [], 0
    for n in range(stops):
        took, again = _stop_and_go_on(account, Place(folder / f"stop-{n}"), n)
        seconds.append(took)
        replayed += again
    refused = _zombie(account, Place(folder / "zombie"))
    account.add(
        Figure("SIGTERM to exit code 0", stops, "times"),
        Figure("SIGTERM to the end, longest", percentile(seconds, 99), "s", "≤", STOPS_WITHIN_SECONDS),
        Figure("records read again after a stop", replayed, "", "≤", 0),
        Figure("second process refused while the first is frozen", refused, "", "≥", 1),
    )  # fmt: skip


def _stop_and_go_on(account: Account, place: Place, n: int) -> tuple[float, int]:
    """How long it took to stop, and how many records were read twice."""
    frame = events(EVENTS, account.seed + n)
    write_input(place, frame)
    # A long interval: the final checkpoint is the one that the stop takes.
    first = Victim.start(place, parallelism=1 + n % 3, pause=PAUSE_SECONDS, interval="30s")
    _until_reading(first)
    time.sleep(0.3)
    asked = time.monotonic()
    first.signal(signal.SIGTERM)
    stopped = first.wait()
    took = time.monotonic() - asked
    if stopped.code != 0 or stopped.get("ended") != "stopped" or not place.published:
        account.fail(f"SIGTERM, {place.root}: {stopped}, checkpoints {place.published}")
        return took, 0
    second = Victim.start(place, parallelism=1 + (n + 1) % 3, batch_rows=8192).wait()
    verdict = judge(place, model(frame))
    if second.code != 0 or not verdict.right:
        account.fail(f"after SIGTERM, {place.root}: {verdict}; {second}")
        return took, 0
    shutil.rmtree(place.root)
    return took, stopped.get("read") + second.get("read") - EVENTS


def _zombie(account: Account, place: Place) -> int:
    """1 if a second process is refused while the first is frozen, and goes on to the right result when it is dead."""
    frame = events(EVENTS, account.seed)
    write_input(place, frame)
    frozen = Victim.start(place, pause=PAUSE_SECONDS)
    _until_reading(frozen)
    frozen.signal(signal.SIGSTOP)
    try:
        refused = Victim.start(place).wait()
        clear = (
            refused.code == 1 and refused.get("error") == "StateError" and "Traceback" not in refused.errors
        )
        if not clear:
            account.fail(f"the second process of a frozen job was not refused clearly: {refused}")
    finally:
        frozen.signal(signal.SIGCONT)
    woken = frozen.kill_after(0.5)
    if not woken.killed:
        account.fail(f"the frozen process did not go on when it was woken: {woken}")
    last = Victim.start(place, parallelism=2, batch_rows=8192).wait()
    verdict = judge(place, model(frame))
    if last.code != 0 or not verdict.right:
        account.fail(f"after the zombie, {place.root}: {verdict}; {last}")
    return int(clear and verdict.right and last.code == 0)


def _until_reading(victim: Victim) -> None:
    until = time.monotonic() + 20
    while not any("first_record" in line for line in victim.said()):
        if time.monotonic() > until or victim.process.poll() is not None:
            raise RuntimeError(f"it reads nothing: {victim.kill_after(0)}")
        time.sleep(0.02)
