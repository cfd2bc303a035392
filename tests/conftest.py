"""For every test: how hard Hypothesis looks, and that no event loop is blocked.

Hypothesis looks briefly while developing, longer and repeatably in CI; `--hypothesis-profile=deep` is for an
hour of looking.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path

import pytest
from hypothesis import settings

from tests.blocked_loops import BlockedLoops

KAFKA = Path(__file__).parent / "kafka"
# No deadline: a shared machine is slow now and then, and that is no counterexample.
settings.register_profile("dev", max_examples=15, deadline=None)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spreads the files that meet a broker, and mostly wait, over the first half of the tests: processes that share the
    files in this order do not all wait at once."""
    files = [list(of_file) for _, of_file in groupby(items, key=lambda item: item.path)]
    met = [of_file for of_file in files if of_file[0].path.parent == KAFKA]
    apart = len(items) / 2 / max(len(met), 1)
    spread: list[pytest.Item] = []
    due = 0.0
    for of_file in (of_file for of_file in files if of_file[0].path.parent != KAFKA):
        if met and len(spread) >= due:
            spread += met.pop(0)
            due += apart
        spread += of_file
    items[:] = [*spread, *chain.from_iterable(met)]


def pytest_collection_finish() -> None:
    """Leaves the ten thousand collected tests out of garbage collection, which would go over them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="module", autouse=True)
def _what_is_left_open_is_told_here() -> Iterator[None]:
    """A connection or a file that a module's tests leave open fails the last of them, and no other module's test."""
    yield
    gc.collect(1)  # the oldest generation holds the caches of all that ran before


@pytest.fixture(scope="session")
def blocked_loops() -> Iterator[BlockedLoops]:
    """Callbacks that blocked an event loop of this process."""
    blocked = BlockedLoops()
    blocked.install()
    yield blocked
    blocked.uninstall()


@pytest.fixture(autouse=True)
def _no_event_loop_is_blocked(
    request: pytest.FixtureRequest, blocked_loops: BlockedLoops, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A test fails whose event loop was gone for long. `@pytest.mark.blocks_the_loop` is for one that means it."""
    # Its callbacks are written in C, where nobody can watch them.
    monkeypatch.setitem(sys.modules, "uvloop", None)
    blocked_loops.found.clear()
    yield
    if blocked_loops.found and request.node.get_closest_marker("blocks_the_loop") is None:
        pytest.fail("an event loop was blocked:\n" + "\n".join(blocked_loops.found), pytrace=False)
