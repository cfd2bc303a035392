"""Processing-time timers: the task loops see to it that operators go on when their moment has come, data or not."""

from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob


class Remind(sf.KeyedProcess):
    """Says so when nothing has come for a key for ten seconds."""

    due = sf.ValueState(int)

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        self.due.update(event["n"])
        ctx.set_processing_timer("10s")

    def on_timer(self, timer: Any, ctx: Any) -> None:
        ctx.emit({"k": ctx.key, "n": self.due.value()})


def reminding() -> sf.Job:
    job = sf.Job("reminding")
    rows = job.read(sf.MemorySource([{"k": "a", "n": 0}], schema={"k": sf.String, "n": sf.Int64}))
    rows.key_by("k").process(Remind(), schema={"k": sf.String, "n": sf.Int64}).collect()
    return job


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_timer_fires_when_nothing_comes(parallelism: int) -> None:
    with TestJob(reminding(), parallelism=parallelism, checkpoint_interval="1s") as t:
        t.source().push([{"k": "a", "n": 1}, {"k": "b", "n": 2}])
        t.advance_processing_time("9s")
        assert t.output().rows() == []
        t.advance_processing_time("2s")
        assert sorted(row["n"] for row in t.output().rows()) == [1, 2]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_timer_fires_between_records(parallelism: int) -> None:
    with TestJob(reminding(), parallelism=parallelism, checkpoint_interval="1s") as t:
        t.source().push([{"k": "a", "n": 1}])
        for n in range(12):
            t.advance_processing_time("1s")
            t.source().push([{"k": "b", "n": n}])
        assert {"k": "a", "n": 1} in t.output().rows()
