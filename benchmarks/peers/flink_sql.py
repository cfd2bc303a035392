"""PyFlink SQL in streaming mode: window table functions over the file, both cores, object reuse, result into
CSV files.

Start-up ends when the JVM's table environment is there. W4 is a global count, which streams as a changelog;
it runs in Flink's batch mode, the faster way to its final counts.
"""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

import csv  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

from benchmarks.workloads.table import DISORDER_MS, GAP_MS, SIZE_MS, SLIDING_MS  # noqa: E402

os.environ["PATH"] = os.pathsep.join(
    (str(Path(sys.executable).parent), os.environ["PATH"])
)  # its launcher calls "python"

from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: E402


def seconds(milliseconds: int) -> str:
    return f"INTERVAL '{milliseconds // 1000}' SECOND"


WINDOWS = {
    "W1": f"TUMBLE(TABLE events, DESCRIPTOR(et), {seconds(SIZE_MS)})",
    "W2": f"HOP(TABLE events, DESCRIPTOR(et), {seconds(SIZE_MS)}, {seconds(SLIDING_MS)})",
    "W3": f"SESSION(TABLE events PARTITION BY key, DESCRIPTOR(et), {seconds(GAP_MS)})",
}


def epoch_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def rows_in(folder: Path) -> Iterator[ResultRow]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith((".", "_")):
            with path.open(newline="") as lines:
                for key, start, end, count, total in csv.reader(lines):
                    yield ResultRow(key, epoch_ms(start), epoch_ms(end), int(count), float(total))


workload, source, result = arguments()
batch = workload == "W4"
settings = EnvironmentSettings.in_batch_mode() if batch else EnvironmentSettings.in_streaming_mode()
tables = TableEnvironment.create(settings)
options = {
    "parallelism.default": str(os.cpu_count()),
    "pipeline.object-reuse": "true",
    "table.local-time-zone": "UTC",
}
for option, value in options.items():
    tables.get_config().set(option, value)
watch.ready()

with TemporaryDirectory() as folder:
    connector = f"'connector' = 'filesystem', 'path' = '{source.resolve().as_uri()}'"
    if batch:
        tables.execute_sql(f"CREATE TABLE texts (line STRING) WITH ({connector}, 'format' = 'raw')")
        query = """SELECT word, '1970-01-01', '1970-01-01', COUNT(*), CAST(0 AS DOUBLE)
            FROM texts CROSS JOIN UNNEST(SPLIT(line, ' ')) AS t(word) GROUP BY word"""
    else:
        tables.execute_sql(f"""CREATE TABLE events (ts BIGINT, key STRING, `value` DOUBLE, kind STRING,
            et AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR et AS et - {seconds(DISORDER_MS)})
            WITH ({connector}, 'format' = 'json')""")
        query = f"""SELECT key, CAST(window_start AS STRING), CAST(window_end AS STRING),
            COUNT(*), SUM(`value`) FROM {WINDOWS[workload]} GROUP BY key, window_start, window_end"""
    tables.execute_sql(f"""CREATE TABLE panes (key STRING, starts STRING, ends STRING, n BIGINT, total DOUBLE)
        WITH ('connector' = 'filesystem', 'path' = '{Path(folder).as_uri()}', 'format' = 'csv')""")
    tables.execute_sql(f"INSERT INTO panes {query}").wait()
    watch.done()
    rows = list(rows_in(Path(folder)))
events = sum(row.n for row in rows) // (SLIDING_MS // SIZE_MS if workload == "W2" else 1)
watch.report(events, rows, result)
