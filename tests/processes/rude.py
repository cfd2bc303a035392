"""A job whose function reads stdin, and then ends its process."""

import os
import sys
from typing import Any

import streamflow as sf
from streamflow import col

sf.setting("base", ".")
ENDS_AT = 3_000


def rude(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 0:
        assert sys.stdin.read() == ""
    if row["n"] == ENDS_AT:
        os._exit(7)
    return row


rude_job = sf.Job("rude")
rude_job.read(sf.DataGen({"n": col("index")}, rows=100_000, rate=2_000)).map(
    rude, schema={"n": sf.Int64}
).key_by("n").aggregate(count=sf.count()).collect()
