"""The same job in micro-batches: each trigger takes what there is, and its results are committed together.

In micro-batch mode the watermark moves and sinks commit at the end of a slice, so a reader of the output folder sees
whole slices only. In streaming mode results come as their windows close; in batch, once, at the end. The results are
the same; run it three times and compare.

    python examples/micro_batch.py
    streamflow run examples/micro_batch.py --mode batch --set out=by-carrier
"""

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA

job = sf.Job("carriers")

by_carrier = (
    job.read(
        sf.FileSource(str(DATA)),
        event_time=col("departed_at").fill_null(col("scheduled")),
        watermark=sf.bounded_disorder("24h"),
    )
    .key_by("carrier")
    .window(sf.tumbling("1d"))
    .aggregate(
        flights=sf.count(),
        cancelled=sf.sum(col("departed_at").is_null().cast(sf.Int64)),
        median_delay=sf.quantile("dep_delay", 0.5),
    )
)
by_carrier.write(sf.FileSink(sf.setting("out", "by-carrier"), format="parquet", mode="overwrite"))

if __name__ == "__main__":
    result = job.run(mode="micro-batch", micro_batch_interval="100ms", batch_rows=1_000)
    print(f"{result.epochs} slices in {result.duration:.2f} s")
