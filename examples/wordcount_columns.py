"""Word count, MapReduce's first example, with columns: split lines into words, count each word.

The counts are combined where the text is read, before words are sent to the subtask that owns them: what MapReduce
calls a combiner. `streamflow plan examples/wordcount_columns.py --physical` shows it.

    python examples/wordcount_columns.py
    streamflow run examples/wordcount_columns.py --parallelism 2 --set 'input=*.txt'
"""

from pathlib import Path

import streamflow as sf
from streamflow import col

TEXTS = Path(__file__).parent / "data" / "*.txt"

job = sf.Job("word-count")

words = (
    job.read(sf.FileSource(sf.setting("input", str(TEXTS)), format="text"))
    .select(word=col("line").str.to_lowercase().str.extract_all("[a-z]+"))
    .explode("word")
    .filter(col("word").is_not_null())
)
counts = words.key_by("word").aggregate(n=sf.count())
out = counts.select("word", "n").collect()

if __name__ == "__main__":
    result = job.run(mode="batch")
    print(out.frame().top_k(10, by="n"))
    print(f"{len(out):,} different words in {result.duration:.2f} s")
