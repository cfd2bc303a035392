"""DuckDB on the finished file: one SQL query into an in-memory table, no watermarks, no state."""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

import duckdb  # noqa: E402

from benchmarks.workloads.table import GAP_MS, SIZE_MS, SLIDING_MS  # noqa: E402

COLUMNS = "{ts: 'BIGINT', key: 'VARCHAR', value: 'DOUBLE', kind: 'VARCHAR'}"
TUMBLING = f"""select key, ts // {SIZE_MS} * {SIZE_MS} as start, start + {SIZE_MS} as "end",
    count(*) as count, sum(value) as total from events group by all"""
SLIDING = f"""with panes as ({TUMBLING}), windows as (
    select key, start - unnest(range(0, {SLIDING_MS}, {SIZE_MS})) as start, count, total from panes)
    select key, start, start + {SLIDING_MS} as "end", sum(count)::bigint as count, sum(total) as total
    from windows group by all"""
SESSIONS = f"""with marked as (
    select key, ts, value, coalesce(ts - lag(ts) over w >= {GAP_MS}, true) as opens
    from events window w as (partition by key order by ts)),
    numbered as (select *, sum(opens::int) over (partition by key order by ts) as session from marked)
    select key, min(ts) as start, max(ts) + {GAP_MS} as "end", count(*) as count, sum(value) as total
    from numbered group by key, session"""
WORDS = """select key, 0 as start, 0 as "end", count(*) as count, 0.0 as total
    from (select unnest(string_split(line, ' ')) as key from lines) group by key"""

workload, source, result = arguments()
connection = duckdb.connect()
connection.execute("set preserve_insertion_order = false")
watch.ready()
match workload:
    case "W4":
        options = "columns = {line: 'VARCHAR'}, header = false, delim = '\t', quote = '', escape = ''"
        connection.execute(f"create view lines as select line from read_csv('{source}', {options})")
    case "W1p":
        connection.execute(f"create view events as select * from read_parquet('{source}')")
    case _:
        read = f"read_json('{source}', format = 'newline_delimited', columns = {COLUMNS})"
        connection.execute(f"create view events as select * from {read}")
query = {"W1": TUMBLING, "W1p": TUMBLING, "W2": SLIDING, "W3": SESSIONS, "W4": WORDS}[workload]
connection.execute(f"create temp table result as {query}")
watch.done()

rows = connection.execute('select key, start, "end", count, total from result').fetchall()
events = sum(row[3] for row in rows) // (SLIDING_MS // SIZE_MS if workload == "W2" else 1)
watch.report(events, map(ResultRow._make, rows), result)
