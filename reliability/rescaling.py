"""Rescaling under load: 1 → 4 → 2 → 3 and again, through a stop with a final checkpoint or through a savepoint.

Going on from a savepoint after the job went on for a while means to go back: what was written after it is taken back.
"""

import asyncio
import random
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure
from reliability.account import Account
from reliability.flow import Place, events, model, write_input
from reliability.inside import start, until
from reliability.verdict import judge
from streamflow.api.running import run_on_loop
from streamflow.runners.local import LocalJob

EVENTS = 200_000
TIMES = 30
WIDTHS = (1, 4, 2, 3)
PAUSE_SECONDS = 0.12


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    place = Place(folder / "rescale")
    frame = events(EVENTS // (3 if quick else 1), account.seed)
    write_input(place, frame)
    times = TIMES // 5 if quick else TIMES
    done, savepoints = run_on_loop(_rescale(place, times, random.Random(account.seed)))
    verdict = judge(place, model(frame))
    if not verdict.right:
        account.fail(f"{place.root}: {verdict}")
    account.add(
        Figure("rescales under load", done, "times", "≥", times),
        Figure("rows lost", verdict.lost, "", "≤", 0),
        Figure("rows written twice or wrong", verdict.surplus, "", "≤", 0),
    )
    account.note(
        f"{savepoints} of the rescales went through a savepoint, the others through a stop; {len(frame):,} events"
    )


async def _rescale(place: Place, times: int, chance: random.Random) -> tuple[int, int]:
    restore, savepoints, done = "latest", 0, 0
    for n in range(times):
        handle = await start(place, pause=PAUSE_SECONDS, parallelism=WIDTHS[n % len(WIDTHS)], restore=restore)
        await until(partial(_reading, handle))
        await asyncio.sleep(chance.uniform(0.05, 0.25))
        if n % 2:
            restore, savepoints = await handle.savepoint(str(place.root / f"savepoint-{n}")), savepoints + 1
            await asyncio.sleep(chance.uniform(0.0, 0.15))  # it goes on meanwhile, which is taken back
            await _end(handle, chance)
        else:
            restore = "latest"
            await handle.stop()
        done += 1
    handle = await start(place, parallelism=WIDTHS[times % len(WIDTHS)], restore=restore, batch_rows=8192)
    await handle.wait()
    return done, savepoints


def _reading(handle: LocalJob) -> bool:
    return handle.status().records_read > 0


async def _end(handle: LocalJob, chance: random.Random) -> None:
    """By a stop, or at once."""
    if chance.random() < 0.5:
        await handle.stop()
    else:
        await handle.cancel()
