"""Jobs that workers import: each reads files below the setting `base`, and collects."""

from datetime import timedelta
from typing import Any, ClassVar

import streamflow as sf

BASE = sf.setting("base", ".")
SCHEMA = {"ts": sf.Int64, "k": sf.String, "v": sf.Int64}


def read(job: sf.Job, name: str = "in") -> Any:
    source = sf.FileSource(f"{BASE}/{name}/*.ndjson", schema=SCHEMA)
    return job.read(source, event_time=sf.epoch("ts", unit="ms"), watermark="5s")


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {"ts": row["ts"], "k": row["k"], "v": row["v"] * 2}


class Running(sf.KeyedProcess):
    """The number and the sum of each key's values so far, and a last word when a key has been quiet."""

    n = sf.ValueState(int, default=0)
    total = sf.ValueState(int, default=0)
    output: ClassVar = {"k": sf.String, "n": sf.Int64, "total": sf.Int64, "last": sf.Boolean}

    def on_event(self, event: Any, ctx: Any) -> None:
        self.n.update(self.n.value() + 1)
        self.total.update(self.total.value() + event["v"])
        ctx.emit({"k": ctx.key, "n": self.n.value(), "total": self.total.value(), "last": False})
        ctx.set_timer(ctx.timestamp + timedelta(minutes=1))

    def on_timer(self, timer: Any, ctx: Any) -> None:
        ctx.emit({"k": ctx.key, "n": self.n.value(), "total": self.total.value(), "last": True})


columns = sf.Job("columns")
columns_out = (
    read(columns).key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count(), v=sf.sum("v")).collect()
)

functions = sf.Job("functions")
functions_out = (
    read(functions)
    .map(doubled, schema=SCHEMA)
    .key_by("k")
    .window(sf.session(gap="3s"))
    .aggregate(n=sf.count(), v=sf.sum("v"))
    .collect()
)

objects = sf.Job("objects")
objects_out = (
    read(objects)
    .map(lambda row: (row["k"], row["v"]))
    .key_by(lambda pair: pair[0])
    .reduce(lambda a, b: (a[0], a[1] + b[1]))
    .collect()
)

joined = sf.Job("joined")
joined_out = read(joined).join(read(joined, "other"), on="k", within=("0s", "2s")).collect()

running = sf.Job("running")
running_out = read(running).key_by("k").process(Running).collect()


def refusing(row: dict[str, Any]) -> dict[str, Any]:
    if row["v"] == 400:
        raise ValueError("not this one")
    return row


failing = sf.Job("failing")
failing_out = read(failing).map(refusing, schema=SCHEMA).key_by("k").aggregate(n=sf.count()).collect()


def shown(row: dict[str, Any]) -> dict[str, Any]:
    print("printed", row["v"])  # noqa: T201
    return row


printing = sf.Job("printing")
printing_out = read(printing).map(shown, schema=SCHEMA).key_by("k").aggregate(n=sf.count()).collect()
