"""Plain Python, one loop, as a careful person writes it: msgspec decodes a line, a dict per window
accumulates.

No watermarks, no state beyond the dict, one core, the result at the end. W1fn calls the two functions that
the streamflow program calls; the loop inlines key and value, as a loop would.
"""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

from collections import defaultdict  # noqa: E402

import msgspec  # noqa: E402

from benchmarks.workloads.functions import Reading, is_wanted, to_reading  # noqa: E402
from benchmarks.workloads.table import SIZE_MS  # noqa: E402


class Event(msgspec.Struct, gc=False):
    ts: int
    key: str
    value: float
    kind: str


Windows = defaultdict[int, dict[str, list[float]]]
workload, source, result = arguments()
watch.ready()
windows: Windows = defaultdict(dict)
if workload == "W1py":
    decode = msgspec.json.Decoder(Event).decode
    with source.open("rb") as lines:
        for line in lines:
            event = decode(line)
            window = windows[event.ts // SIZE_MS]
            if (accumulator := window.get(event.key)) is not None:
                accumulator[0] += 1
                accumulator[1] += event.value
            else:
                window[event.key] = [1, event.value]
else:
    decode_row = msgspec.json.Decoder().decode
    with source.open("rb") as lines:
        for line in lines:
            row = decode_row(line)
            if not is_wanted(row):
                continue
            reading: Reading = to_reading(row)
            window = windows[row["ts"] // SIZE_MS]
            if (accumulator := window.get(reading["key"])) is not None:
                accumulator[0] += 1
                accumulator[1] += reading["value"]
            else:
                window[reading["key"]] = [1, reading["value"]]
watch.done()

rows = [
    ResultRow(key, number * SIZE_MS, (number + 1) * SIZE_MS, int(count), total)
    for number, window in windows.items()
    for key, (count, total) in window.items()
]
watch.report(sum(row.n for row in rows), rows, result)
