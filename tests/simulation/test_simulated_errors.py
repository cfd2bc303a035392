"""A function whose result does not fit ends the job in that record's error, whatever happens when: its error races with
the end of the input, with barriers, and with the other subtasks, on the loop and on threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import polars as pl
import pytest

import streamflow as sf
from streamflow.runtime.ports import Ports
from streamflow.testing.simulation.campaign import repeatable
from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.disk import SimDisk
from streamflow.testing.simulation.interventions import Interventions
from streamflow.testing.simulation.process import run_process
from streamflow.testing.simulation.schedule import Incarnation
from streamflow.testing.simulation.trace import Trace
from streamflow.time.effort import Effort

ROWS = 40
LIVES = 6
FRAME = pl.DataFrame(
    {"id": range(ROWS), "k": [f"k{n % 5}" for n in range(ROWS)], "at": [n * 1_000_000 for n in range(ROWS)]}
)
FITS = {"n": sf.Int64}


def unfit(row: dict[str, Any]) -> dict[str, Any]:
    """The last record's result is a text."""
    return {"n": "x" if row["id"] == ROWS - 1 else row["id"]}


async def answered(row: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0.001 * (row["id"] % 3))
    return unfit(row)


class Process(sf.KeyedProcess):
    output: ClassVar[object] = FITS

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.emit(unfit(event))


def read(job: sf.Job) -> sf.Stream:
    return job.read(
        sf.MemorySource(FRAME), event_time=sf.epoch("at", unit="us"), watermark=sf.bounded_disorder("1s")
    )


SHAPES: dict[str, Callable[[sf.Stream], sf.Stream]] = {
    "map": lambda rows: rows.map(unfit, schema=FITS),
    "flat_map": lambda rows: rows.flat_map(lambda row: [unfit(row)], schema=FITS),
    "map_async": lambda rows: rows.map_async(answered, schema=FITS),
    "unordered": lambda rows: rows.map_async(answered, schema=FITS, ordered=False),
    "process": lambda rows: rows.key_by("k").process(Process),
    "behind a window": lambda rows: (
        rows.key_by("k").window(sf.tumbling("5s")).aggregate(id=sf.max("id")).map(unfit, schema=FITS)
    ),
    "in a union": lambda rows: rows.map(unfit, schema=FITS).union(
        rows.map(lambda row: {"n": row["id"]}, schema=FITS)
    ),
}


@pytest.mark.parametrize("mode", ["micro-batch", "streaming"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_result_that_does_not_fit_ends_the_job(
    shape: str, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(LIVES):
        chance = Chance(f"{shape}/{mode}/{seed}")
        threads = chance.split("threads")
        # What takes long, and so goes to a thread, is a matter of the machine's load.
        monkeypatch.setattr(Effort, "large", lambda effort, records, threads=threads: threads.happens(0.5))
        job = sf.Job("unfit")
        SHAPES[shape](read(job)).collect()
        checkpoints = {"checkpoint_dir": "/checkpoints", "checkpoint_interval": "10ms", "restart": "auto"}
        settings: dict[str, Any] = {
            "mode": mode,
            "parallelism": chance.one_of((2, 3, 4)),
            "batch_rows": chance.one_of((1, 4, 16, 64)),
            "micro_batch_interval": chance.one_of(("1ms", "10ms")),
            "state_backend": "memory",
            **(checkpoints if chance.happens(0.4) else {}),
        }

        async def main(
            ports: Ports,
            interventions: Interventions,
            job: sf.Job = job,
            settings: dict[str, Any] = settings,
        ) -> Any:
            return await (await job.start(ports=ports, **settings)).wait()

        with repeatable():
            ending = run_process(
                main,
                Incarnation(1),
                SimDisk(),
                chance=chance,
                trace=Trace(),
                blocking=chance.one_of((0.0002, 0.002, 0.01)),
                stalls=chance.one_of((0.0, 0.03, 0.1, 0.3)),
            )
        assert isinstance(ending.error, sf.RecordError), (seed, settings, ending.how, ending.error)
        assert "'n' is 'x' (str), not Int64" in str(ending.error)
