"""How fast keyed state finds its way to another number of subtasks, on one core, in RocksDB."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import data
from benchmarks.figures import Figure
from streamflow.core.keys import key_group_range
from streamflow.state.backends.factory import open_backend, twin_of
from streamflow.state.backends.growing import GrowingBackend
from streamflow.state.backends.protocol import SLICE, KeyedStateBackend, StateAddress
from streamflow.state.operator_snapshot import StatePart, take_groups

KEYS = 10_000_000
GROUPS = 128
ADDRESS = StateAddress("process-1", "total")


def rescaling(*, keys: int = KEYS) -> list[Figure]:
    """Seconds until all subtasks of an operator with so many keys have their shares."""
    figures: list[Figure] = []
    with TemporaryDirectory(dir=data.cache_folder()) as folder, ExitStack() as opened:
        parts = _filled(Path(folder, "1"), keys)
        opened.callback(_close, parts)
        for after in (2, 3, 1):
            began = time.perf_counter()
            taken, copied = _rescaled(parts, after, Path(folder, f"to-{after}"))
            seconds = time.perf_counter() - began
            opened.callback(_close, taken)
            name = f"rescaling {keys:,} keys from {len(parts)} subtasks to {after}"
            figures += [Figure(name, seconds, "s"), Figure("of which copied", copied / keys, "")]
            parts = taken
    return figures


def _filled(folder: Path, keys: int) -> list[StatePart]:
    backend = open_backend("rocksdb", folder)
    each = keys // GROUPS
    for group in range(GROUPS):
        for start in range(0, each, SLICE):
            numbers = range(start, min(start + SLICE, each))
            backend.write(ADDRESS, [(group, b"user-%010d" % number, b"%08d" % number) for number in numbers])
    backend.flush()
    return [StatePart(range(GROUPS), {}, {}, backend)]


def _rescaled(parts: Sequence[StatePart], after: int, folder: Path) -> tuple[list[StatePart], int]:
    taken: list[StatePart] = []
    copied = 0
    for index in range(after):
        groups = key_group_range(index, after, GROUPS)
        place = folder / str(index)
        opened: Callable[[], KeyedStateBackend] = partial(open_backend, "rocksdb", place)
        backend = GrowingBackend(opened, partial(twin_of, directory=place))
        meeting = [each for each in parts if set(each.groups) & set(groups)]
        copied += take_groups(meeting, backend, [ADDRESS], groups)
        backend.save(folder / f"saved-{index}")
        backend.close()
        saved = open_backend("rocksdb", folder / f"saved-{index}", must_exist=True)
        taken.append(StatePart(groups, {}, {}, saved))
    return taken, copied


def _close(parts: Sequence[StatePart]) -> None:
    for part in parts:
        if part.backend is not None:
            part.backend.close()
