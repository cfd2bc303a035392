"""How a program's coroutine is run."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from streamflow.api.running import run_on_loop


@pytest.mark.filterwarnings("error")
def test_a_signal_before_the_job_has_begun_leaves_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    async def job() -> None:
        """Never begun."""

    monkeypatch.setattr(asyncio, "run", interrupted)
    monkeypatch.setattr(asyncio, "Runner", interrupted)
    coroutine = job()
    with pytest.raises(KeyboardInterrupt):
        run_on_loop(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
