"""For every test: how hard Hypothesis looks, and that no event loop is blocked.

Hypothesis looks briefly while developing, longer and repeatably in CI; `--hypothesis-profile=deep` is for an
hour of looking.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.blocked_loops import BlockedLoops

# No deadline: a shared machine is slow now and then, and that is no counterexample.
settings.register_profile("dev", max_examples=30, deadline=None)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


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
