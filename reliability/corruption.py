"""Damage to every kind of file of a checkpoint: the job goes back to an older one or refuses, and is never wrong.

A job is run halfway and ended; then, in a copy of all that it left each time, one file is damaged and the job is
started again. Whether every damage is found at all is counted on the checkpoint store itself, which is faster.
"""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl

from benchmarks.figures import Figure
from reliability.account import Account
from reliability.flow import Place, events, model, write_input
from reliability.inside import run_to_end, start, until
from reliability.verdict import judge
from streamflow.api.running import run_on_loop
from streamflow.errors import StateError

EVENTS = 6_000
CASES = 200
PAGE = 4096


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    # Always at the same path: checkpoints name their splits by it.
    place, kept = Place(folder / "corruption"), folder / "corruption-kept"
    frame = events(EVENTS, account.seed)
    expected = model(frame)
    write_input(place, frame)
    run_on_loop(_half_a_run(place))
    place.root.rename(kept)
    chance = random.Random(account.seed)
    outcomes: Counter[str] = Counter()
    cases = 24 if quick else CASES
    for n in range(cases):
        shutil.copytree(kept, place.root)
        what = damage(place.checkpoints, list(DAMAGES)[n % len(DAMAGES)], chance)
        outcome = _restart(place, expected, what, account)
        outcomes[outcome] += 1
        if outcome == "wrong":
            place.root.rename(folder / f"corruption-wrong-{n}")
        else:
            shutil.rmtree(place.root)
    account.add(
        Figure(
            "damaged files, store asked",
            _on_the_store(account, folder, quick=quick),
            "cases",
            "≥",
            0 if quick else 2_000,
        ),
        Figure("damaged checkpoints, job restarted", cases, "cases", "≥", cases),
        Figure("wrong results", outcomes["wrong"], "", "≤", 0),
    )
    account.note(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))


def _on_the_store(account: Account, folder: Path, *, quick: bool) -> int:
    """The store's own test of damage, case by case; how many cases passed."""
    from tests.unit.state.checkpoints import test_corruption as store

    passed = 0
    for key in [None] if quick else [None, b"a key"]:
        case = store.make(folder / f"corruption-store-{'signed' if key else 'plain'}", key)
        for damage, times in store.TIMES.items():
            try:
                store.test_damage_is_noticed_and_an_older_checkpoint_takes_over(case, damage)
            except Exception as error:  # noqa: BLE001 — whatever is raised, it was not noticed as it should be
                account.fail(f"the store, {damage.__name__}: {type(error).__name__}: {error}")
            else:
                passed += times * len(store.stored_files(case, 11))
    return passed


async def _half_a_run(place: Place) -> None:
    """Until several checkpoints of two generations lie there, then the end without a last word."""
    handle = await start(place, pause=0.3, parallelism=2, batch_rows=64)
    await until(lambda: max(place.published, default=0) >= 6)
    await handle.cancel()
    await asyncio.sleep(0)


def _restart(place: Place, expected: dict[str, pl.DataFrame], what: str, account: Account) -> str:
    """How the job took it."""
    try:
        run_to_end(place, batch_rows=8192, parallelism=2)
    except StateError as refusal:
        verdict = judge(place, expected, ended=False)
        if verdict.right and str(refusal):
            return "refused"
        account.fail(f"{what}, {place.root}: refused ({refusal}), but {verdict}")
        return "wrong"
    except Exception as error:  # noqa: BLE001 — anything that is not a clear refusal is a finding
        account.fail(f"{what}, {place.root}: {type(error).__name__}: {error}")
        return "wrong"
    verdict = judge(place, expected)
    if not verdict.right:
        account.fail(f"{what}, {place.root}: {verdict}")
        return "wrong"
    return (
        "went back to an older checkpoint"
        if list(place.checkpoints.glob("*/quarantine/*"))
        else "not needed any more"
    )


def damage(root: Path, how: str, chance: random.Random) -> str:
    """Damages one file of the checkpoints; says which and how."""
    files = sorted(
        path for kind in ("manifests", "blobs") for path in root.glob(f"*/{kind}/**/*") if path.is_file()
    )
    newest = sorted(root.glob("*/manifests/*"))[-1:]
    path = chance.choice(files if chance.random() < 0.8 else newest)
    DAMAGES[how](path, files, chance)
    return f"{how} {path.relative_to(root)}"


def _flip(path: Path, files: list[Path], chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, files: list[Path], chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))] if data else b"")


def _zero(path: Path, files: list[Path], chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = chance.randrange(0, max(1, len(data)), PAGE)
    data[at : at + PAGE] = bytes(len(data[at : at + PAGE]))
    path.write_bytes(data)


def _append(path: Path, files: list[Path], chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randint(1, 64)))


def _delete(path: Path, files: list[Path], chance: random.Random) -> None:
    path.unlink()


def _swap(path: Path, files: list[Path], chance: random.Random) -> None:
    other = chance.choice(files)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGES: dict[str, Callable[[Path, list[Path], random.Random], None]] = {
    "flip": _flip,
    "truncate": _truncate,
    "zero": _zero,
    "append": _append,
    "delete": _delete,
    "swap": _swap,
}
