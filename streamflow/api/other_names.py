"""Names that people try first because other libraries use them, each with the name to use here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

__all__ = ["AGGREGATES", "ELSEWHERE", "missing"]

_MEDIAN: Final = "quantile(column, 0.5)"
_READ: Final = "FileSource(path), read by job.read(…)"
ELSEWHERE: Final = {
    "median": _MEDIAN,
    "avg": "mean(column)",
    "average": "mean(column)",
    "stddev": "std(column)",
    "stdev": "std(column)",
    "variance": "var(column)",
    "percentile": "quantile(column, q), with q between 0 and 1",
    "count_distinct": "n_unique(column)",
    "approx_count_distinct": "approx_n_unique(column)",
    "array_agg": "collect_list(column)",
    "hop": "sliding(size, every=…)",
    "hopping": "sliding(size, every=…)",
    "tumble": "tumbling(size)",
    "window": "tumbling(size), sliding(size, every=…) or session(gap=…), and window(…) of a stream",
    "watermark": "bounded_disorder(bound), and job.read(source, watermark=…)",
    "read_csv": _READ,
    "read_parquet": _READ,
    "read_ndjson": _READ,
    "scan_csv": _READ,
    "scan_parquet": _READ,
    "from_kafka": "KafkaSource(topic, …), read by job.read(…)",
    "read_kafka": "KafkaSource(topic, …), read by job.read(…)",
    "concat": "stream.union(other)",
    "union": "stream.union(other)",
    "when": "polars.when(…)",
    "udf": "stream.map(function)",
}
"""Name tried in the package → name to use."""

AGGREGATES: Final = {
    "avg": "mean(column)",
    "average": "mean(column)",
    "median": "aggregate(median=sf.quantile(column, 0.5))",
    "quantile": "aggregate(q=sf.quantile(column, …))",
    "percentile": "aggregate(q=sf.quantile(column, …))",
    "std": "aggregate(std=sf.std(column))",
    "stddev": "aggregate(std=sf.std(column))",
    "var": "aggregate(var=sf.var(column))",
    "join": "process(…, broadcast=other) of the keyed stream, or union(other) before key_by(…)",
}
"""Name tried as an aggregate → name to use."""


def missing(kind: str, name: str, elsewhere: Mapping[str, str], known: Iterable[str]) -> AttributeError:
    """The AttributeError for a name that a class does not have; `elsewhere` maps such names to those to use.

    >>> missing("Stream", "where", {"where": "filter(…)"}, ["filter"])
    AttributeError("Stream has no 'where': use filter(…)")
    """
    if name in elsewhere:
        return AttributeError(f"{kind} has no {name!r}: use {elsewhere[name]}")
    near = get_close_matches(name, [each for each in known if not each.startswith("_")], n=1)
    return AttributeError(f"{kind} has no {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
