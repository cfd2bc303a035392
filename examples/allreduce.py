"""Data-parallel training: gradients are summed over all subtasks, and the sums change the model in each of them.

That is an AllReduce: a reduce and a broadcast. Since a stream cannot loop, the steps are written out, one behind the
other. The model of a step reaches every subtask; each takes the gradients of its own examples, which stay where they
are read, and sums them; one row of each subtask makes the next model. The order in which floats are added changes their
last digits only: the model is the same with one subtask and with several, in every mode.

    python examples/allreduce.py
    streamflow run examples/allreduce.py --parallelism 2
"""

from typing import TypedDict

import polars as pl

import streamflow as sf
from streamflow import col

MODEL = ("base", "slope")
REDUCE = {name: sf.first(name) for name in MODEL} | {f"by_{name}": sf.mean(f"by_{name}") for name in MODEL}
STEP = {name: col(name) - 1.5 * col(f"by_{name}") for name in MODEL}


class Example(TypedDict):
    """A point near the line y = 1 + 2x, and the model that is to find the line."""

    x: float
    y: float
    base: float
    slope: float


class Gradient(TypedDict):
    """The gradient of half the squared error of one example, beside the model."""

    by_base: float
    by_slope: float
    base: float
    slope: float


def gradient(row: Example) -> Gradient:
    error = row["base"] + row["slope"] * row["x"] - row["y"]
    return {"by_base": error, "by_slope": error * row["x"], "base": row["base"], "slope": row["slope"]}


job = sf.Job("allreduce")
x, noise = col("index") * 37 % 1000 / 500 - 1, col("index") * 61 % 100 / 100 - 0.5
columns = {"at": pl.from_epoch("index", "ms"), "x": x, "y": 1 + 2 * x + noise, "all": pl.lit(0)}
examples = job.read(sf.DataGen(columns, rows=1_000, splits=4), event_time="at")
model: sf.Stream = job.read(sf.MemorySource(pl.select(all=pl.lit(0), base=0.0, slope=0.0)))
for _ in range(sf.setting("steps", 12)):
    gradients = examples.join(model, on="all", strategy="broadcast").map(gradient)
    reduced = gradients.window(sf.global_window()).aggregate(**REDUCE)
    model = reduced.select(all=pl.lit(0), **STEP)
out = model.drop("all").collect()

if __name__ == "__main__":
    job.run()
    print(out.frame())
