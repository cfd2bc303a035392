"""A job that workers import: totals of made records, which come at a steady rate, in files below the setting `base`."""

import streamflow as sf
from streamflow import col

BASE = sf.setting("base", ".")
MADE = sf.setting("made", 1_000)

made = sf.Job("made")
(
    made.read(sf.DataGen({"n": col("index"), "k": col("index") % 17}, rows=MADE, rate=5_000))
    .map(lambda row: {"k": row["k"], "n": row["n"]}, schema={"k": sf.Int64, "n": sf.Int64})
    .key_by("k")
    .aggregate(count=sf.count(), total=sf.sum("n"))
    .named("totals")
    .write(sf.FileSink(f"{BASE}/out", format="ndjson"))
)
