"""PyFlink SQL's joins in streaming mode: two files of events in, the pairs out into CSV files.

As benchmarks/workloads/join_files.py. Tables of the latest row for each key are views of `ROW_NUMBER() = 1`, as
Flink's documentation has them. One subtask: files of this size are one split each.
"""

from benchmarks.measure import Stopwatch, arguments

watch = Stopwatch()

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

os.environ["PATH"] = os.pathsep.join(
    (str(Path(sys.executable).parent), os.environ["PATH"])
)  # its launcher calls "python"

from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: E402

PAIRS = "SELECT l.key, l.`value`, r.`value` FROM"
QUERIES = {
    "interval": f"""{PAIRS} events_left l JOIN events_right r ON l.key = r.key
        AND r.et BETWEEN l.et - INTERVAL '1' MINUTE AND l.et + INTERVAL '1' MINUTE""",
    "asof": f"{PAIRS} events_left l LEFT JOIN latest_right FOR SYSTEM_TIME AS OF l.et AS r ON l.key = r.key",
    "regular": f"{PAIRS} latest_left l JOIN latest_right r ON l.key = r.key",
}

workload, source, _ = arguments()
tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
options = {"parallelism.default": "1", "pipeline.object-reuse": "true", "table.local-time-zone": "UTC"}
for option, value in options.items():
    tables.get_config().set(option, value)
watch.ready()

with TemporaryDirectory() as folder:
    for side in ("left", "right"):
        path = (source / f"{side}.ndjson").resolve().as_uri()
        tables.execute_sql(f"""CREATE TABLE events_{side} (ts BIGINT, key BIGINT, `value` BIGINT,
            et AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR et AS et - INTERVAL '1' SECOND)
            WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json')""")
        tables.execute_sql(f"""CREATE VIEW latest_{side} AS SELECT key, `value`, et FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY key ORDER BY et DESC) AS place FROM events_{side})
            WHERE place = 1""")
    sink = (
        "'connector' = 'blackhole'"
        if workload == "regular"
        else f"'connector' = 'filesystem', 'path' = '{Path(folder).as_uri()}', 'format' = 'csv'"
    )
    tables.execute_sql(f"CREATE TABLE pairs (key BIGINT, `value` BIGINT, other BIGINT) WITH ({sink})")
    tables.execute_sql(f"INSERT INTO pairs {QUERIES[workload]}").wait()
    watch.done()
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name[0] not in "._"]
    written = sum(path.read_bytes().count(b"\n") for path in files)
for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
    # The processor time of a JVM that nobody has waited for would count for nobody.
    os.kill(int(child), signal.SIGTERM)
    os.waitpid(int(child), 0)
events = sum((source / f"{side}.ndjson").read_bytes().count(b"\n") for side in ("left", "right"))
watch.report(events, [], pairs=written)
