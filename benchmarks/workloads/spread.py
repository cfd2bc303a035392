"""The measured process for streamflow on several processes: `python -m benchmarks.workloads.spread W1fn EVENTS`.

Workers import this file again, so the job is at its top level, and what it depends on is in the environment:
`STREAMFLOW_BENCH_WORKLOAD` (W1, W1fn, KP; few: 500 made events a second for half a minute), `STREAMFLOW_BENCH_SOURCE`,
`STREAMFLOW_BENCH_PARALLELISM` (2), and for the one that runs it `STREAMFLOW_BENCH_PROCESSES` and
`STREAMFLOW_BENCH_CHECKPOINTS` (an interval).
"""

from benchmarks.measure import Stopwatch

watch = Stopwatch()

import os  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402
from typing import Any  # noqa: E402

import streamflow as sf  # noqa: E402
from benchmarks.workloads.jobs import JOBS, read_events  # noqa: E402

PARALLELISM = int(os.environ.get("STREAMFLOW_BENCH_PARALLELISM", "2"))


class Totals(sf.KeyedProcess):
    """The number and the sum of each key's values; a row for every thousandth."""

    n = sf.ValueState(int, default=0)
    total = sf.ValueState(float, default=0.0)
    output = {"key": sf.String, "n": sf.Int64, "total": sf.Float64}  # noqa: RUF012

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        n = self.n.value() + 1
        total = self.total.value() + event["value"]
        self.n.update(n)
        self.total.update(total)
        if n % 1_000 == 0:
            ctx.emit({"key": ctx.key, "n": n, "total": total})


workload, source = os.environ["STREAMFLOW_BENCH_WORKLOAD"], Path(os.environ["STREAMFLOW_BENCH_SOURCE"])
job = sf.Job(workload.lower())
if workload == "few":
    made = sf.DataGen(
        {"key": (sf.col("index") % 997).cast(str), "value": sf.col("index") * 0.5}, rows=15_000, rate=500
    )
    out = job.read(made).key_by("key").process(Totals).collect()
elif workload == "KP":
    out = read_events(job, source).key_by("key").process(Totals).collect()
else:
    out = JOBS[workload](job, source).collect()


def main() -> None:
    processes = int(os.environ.get("STREAMFLOW_BENCH_PROCESSES", "1"))
    interval = os.environ.get("STREAMFLOW_BENCH_CHECKPOINTS")
    watch.ready()
    with TemporaryDirectory() as folder:
        given: dict[str, Any] = {}
        if interval:
            given = {"checkpoint_dir": f"{folder}/checkpoints", "checkpoint_interval": interval}
        if processes > 1:
            given |= {"runner": "processes", "processes": processes}
        ended = job.run(mode="streaming", parallelism=PARALLELISM, **given)
        watch.done()
    frame = out.frame()
    checkpoint = ended.checkpoint
    watch.report(
        ended.records_in["read-1"],
        [],
        results=frame.height,
        total=int(frame["n"].sum()) if frame.height else 0,
        checkpoint=None if checkpoint is None else checkpoint.duration,
    )


if __name__ == "__main__":
    main()
