"""Whether what a program computed is right: in full for its first run on a file, by checksum for the ones
after.

The right answer is computed once per workload and file and kept beside the data.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from benchmarks import data
from benchmarks.program import Measurement, Program, ProgramError, measure
from benchmarks.reference import differences, expected, read_result
from benchmarks.workloads.table import KAFKA_WORKLOADS, WORKLOADS

SUM_TOLERANCE = 0.01


class Verifier:
    """Measures programs and refuses wrong results. Keeps what each program's verified result was."""

    def __init__(self) -> None:
        self._verified: dict[tuple[str, str, Path], Measurement] = {}

    def measure(self, program: Program, source: Path) -> Measurement:
        """A measurement with a right result, or `ProgramError`."""
        key = (program.name, program.workload, source)
        if (before := self._verified.get(key)) is None:
            self._verified[key] = before = measured = self._measure_in_full(program, source)
        else:
            measured = measure(program, source)
        same = (measured.rows, measured.checksum) == (before.rows, before.checksum)
        if not same or abs(measured.sum - before.sum) > SUM_TOLERANCE:
            raise ProgramError(f"{program.name} {program.workload}: another result than in its first run")
        return measured

    def _measure_in_full(self, program: Program, source: Path) -> Measurement:
        with TemporaryDirectory() as folder:
            result = Path(folder, "result.csv")
            measured = measure(program, source, result)
            wrong = differences(read_result(result), right_answer(program, source))
        if wrong:
            raise ProgramError(f"{program.name} {program.workload}: {wrong}")
        return measured


def right_answer(program: Program, source: Path) -> pl.DataFrame:
    """The expected result, from the cache folder if it was computed before."""
    workload = (WORKLOADS | KAFKA_WORKLOADS)[program.workload]
    rule = "-closed" if workload.result == "session" and program.closed_gap else ""
    kept = data.cache_folder() / f"{source.stem}.{workload.result}{rule}.parquet"
    if not kept.exists():
        answer = expected(workload, source, closed_gap=program.closed_gap)
        partial = kept.with_suffix(".partial")
        answer.write_parquet(partial)
        partial.replace(kept)
    return pl.read_parquet(kept)
