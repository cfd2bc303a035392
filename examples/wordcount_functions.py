"""Word count with Python functions: a mapper that yields words, a reducer that adds two counts.

Annotations declare the functions' results, so that the stream has columns. The reducer also runs in the source's
read-ahead, so a word crosses to the subtask that owns it with the sum of its counts so far.

    python examples/wordcount_functions.py
    streamflow run examples/wordcount_functions.py --parallelism 2
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import streamflow as sf

TEXTS = Path(__file__).parent / "data" / "*.txt"
WORD = re.compile("[a-z]+")


class Counted(TypedDict):
    """A word and how often it was seen."""

    word: str
    n: int


class Line(TypedDict):
    """A row of the text: it has one column."""

    line: str


def mapper(row: Line) -> Iterator[Counted]:
    for word in WORD.findall(row["line"].lower()):
        yield {"word": word, "n": 1}


def reducer(left: Counted, right: Counted) -> Counted:
    return {"word": left["word"], "n": left["n"] + right["n"]}


job = sf.Job("word-count")

lines = job.read(sf.FileSource(sf.setting("input", str(TEXTS)), format="text"))
out = lines.flat_map(mapper).key_by("word").reduce(reducer).collect()

if __name__ == "__main__":
    job.run(mode="batch")
    counts = sorted((row["value"]["n"], row["word"]) for row in out.rows())
    for n, word in reversed(counts[-10:]):
        print(f"{n:6,} {word}")
    print(f"{len(counts):,} different words")
