"""The benchmarks' data: events as ndjson and Parquet, and lines of text; seeded, written in chunks, cached.

An event arrives every 0.1 ms of event time and is up to 5 s older than its arrival, so with a disorder bound
of 5 s nothing is late. Keys are a bounded zipf. Files are named after everything that determines their bytes
and appear whole or not at all; memory is bounded by one chunk, whatever the size. `python -m benchmarks.data
1000000` fills the cache.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.draws import uniform, zipf, zipf_cumulative
from benchmarks.workloads.table import DISORDER_MS

SEED = 20261121
FORMAT = 1  # raise it when the generator changes: old files are then left alone, and new ones written
CHUNK = 250_000
KEYS = 10_000
EXPONENT = 1.1
EVENTS_PER_MS = 10
FIRST_MS = 1_700_000_000_000
KINDS = ("view", "cart", "like", "sale")
VOCABULARY = 50_000
WORDS_PER_LINE = 12
TEXT_BYTES = 100_000_000

EVENT_SCHEMA = {"ts": pl.Int64(), "key": pl.String(), "value": pl.Float64(), "kind": pl.String()}


def cache_folder() -> Path:
    """Where data is kept: `STREAMFLOW_BENCH_DIR`, or the user's cache folder."""
    if chosen := os.environ.get("STREAMFLOW_BENCH_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "streamflow" / "bench"


def events_ndjson(count: int, *, seed: int = SEED) -> Path:
    """The path of `count` events as ndjson, generated on first use."""

    return cached(f"events-{count}-{seed}-v{FORMAT}.ndjson", partial(_write, count, seed, 1, 0))


def events_in_turn(count: int, files: int, *, seed: int = SEED) -> str:
    """The pattern of so many files of ndjson among which the events are dealt out in turn, generated on first use."""
    stem = f"events-{count}-{seed}-v{FORMAT}-of{files}"
    for number in range(files):
        cached(f"{stem}-{number}.ndjson", partial(_write, count, seed, files, number))
    return str(cache_folder() / f"{stem}-*.ndjson")


def _write(count: int, seed: int, files: int, number: int, target: Path) -> None:
    """Writes those of the events that are dealt to one of so many files."""
    with target.open("wb") as out:
        for start in range(0, count, CHUNK):
            chunk = event_chunk(start, min(CHUNK, count - start), seed=seed)
            chunk.gather_every(files, (number - start) % files).write_ndjson(out)


def events_parquet(count: int, *, seed: int = SEED) -> Path:
    """The same events as Parquet, one row group per chunk."""

    def write(target: Path) -> None:
        text = pl.scan_ndjson(events_ndjson(count, seed=seed), schema=EVENT_SCHEMA)
        text.sink_parquet(target, row_group_size=CHUNK)

    return cached(f"events-{count}-{seed}-v{FORMAT}.parquet", write)


def text_lines(size: int = TEXT_BYTES, *, seed: int = SEED) -> Path:
    """Lines of zipf-distributed words, at least `size` bytes of them."""

    def write(target: Path) -> None:
        words = pl.Series([_word(rank) for rank in range(VOCABULARY)])
        cumulative = zipf_cumulative(VOCABULARY, EXPONENT)
        line, written = 0, 0
        with target.open("wb") as out:
            while written < size:
                lines = min(CHUNK // WORDS_PER_LINE, (size - written) // (4 * WORDS_PER_LINE) + 1)
                draws = uniform(line * WORDS_PER_LINE, lines * WORDS_PER_LINE, seed=seed, stream=5)
                chosen = words.gather(zipf(cumulative, draws)).reshape((lines, WORDS_PER_LINE))
                rows = chosen.cast(pl.List(pl.String)).list.join(" ")
                written += out.write(("\n".join(rows) + "\n").encode())
                line += lines

    return cached(f"text-{size}-{seed}-v{FORMAT}.txt", write)


def event_chunk(start: int, length: int, *, seed: int = SEED) -> pl.DataFrame:
    """Events `start … start + length − 1` of the endless sequence that a seed names, in order of arrival."""
    draws = {
        name: uniform(start, length, seed=seed, stream=i)
        for i, name in enumerate(("age", "key", "value", "kind"))
    }
    keys = pl.Series([f"user-{rank:04d}" for rank in range(KEYS)])
    arrival = pl.int_range(start, start + length) // EVENTS_PER_MS + (FIRST_MS + DISORDER_MS)
    return pl.DataFrame(draws).select(
        ts=arrival - (pl.col("age") * (DISORDER_MS + 1)).cast(pl.Int64),
        key=keys.gather(zipf(zipf_cumulative(KEYS, EXPONENT), draws["key"])),
        value=pl.col("value").round(4),
        kind=pl.Series(KINDS).gather((draws["kind"] * len(KINDS)).cast(pl.UInt32)),
    )


def _word(rank: int) -> str:
    """A pronounceable word, unique per rank, short for the frequent ones: two to four syllables."""
    syllables, rest = "", rank
    while rest or len(syllables) < 4:
        rest, digit = divmod(rest, 70)
        syllables += "bdfgklmnprstvz"[digit // 5] + "aeiou"[digit % 5]
    return syllables


def cached(name: str, write: Callable[[Path], None]) -> Path:
    path = cache_folder() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{name}.{os.getpid()}.partial")
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(events_ndjson(int(argument)), events_parquet(int(argument)), text_lines(), sep="\n")
