"""Bad lines do not stop the job: they go to a dead-letter file, with where they were and what was wrong.

The example writes its own input: three good readings, one line that is no JSON, one reading that is no number.
Without `on_error` the job would fail at the first bad line and show it.

    python examples/dead_letters.py
    streamflow run examples/dead_letters.py --set folder=readings
"""

from pathlib import Path

import streamflow as sf

folder = Path(sf.setting("folder", "readings"))
folder.mkdir(exist_ok=True)
(folder / "readings.ndjson").write_text(
    '{"sensor": "a", "celsius": 20.5}\n'
    '{"sensor": "b", "celsius": 18.0}\n'
    '{"sensor": "a", "cels\n'
    '{"sensor": "a", "celsius": 21.5}\n'
    '{"sensor": "b", "celsius": "warm"}\n'
)

job = sf.Job("readings")

readings = job.read(
    sf.FileSource(str(folder / "readings.ndjson"), schema={"sensor": sf.String, "celsius": sf.Float64})
).on_error(sf.FileSink(str(folder / "bad"), format="ndjson", mode="overwrite"))
means = readings.key_by("sensor").aggregate(mean=sf.mean("celsius"), n=sf.count())
means.select("sensor", "mean", "n").write(sf.FileSink(str(folder / "means"), format="csv", mode="overwrite"))

if __name__ == "__main__":
    result = job.run()
    print(f"{result.errors} bad lines, in {folder / 'bad'}")
