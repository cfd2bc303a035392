"""Which peers there are, what each can do, and which interpreter has it installed.

A peer may live in an environment of its own: `STREAMFLOW_BENCH_PYTHONS` lists further interpreters
(separated like PATH).
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

INTERPRETERS = "STREAMFLOW_BENCH_PYTHONS"


@dataclass(frozen=True)
class Peer:
    """A peer; its program is `benchmarks.peers.<program>`, and it runs where `package` can be imported."""

    name: str
    program: str
    package: str
    workloads: frozenset[str]
    kind: str
    """batch (the limit), loop, jvm or python (streaming peers: fewer rounds, further targets)."""
    closed_gap: bool = False
    """Its sessions merge at a distance of exactly one gap."""


PEERS = (
    Peer("polars", "polars_streaming", "polars", frozenset({"W1", "W1p", "W2", "W3", "W4"}), "batch"),
    Peer("duckdb", "duckdb_sql", "duckdb", frozenset({"W1", "W1p", "W2", "W3", "W4"}), "batch"),
    Peer("hand loop", "hand_loop", "msgspec", frozenset({"W1py", "W1fn"}), "loop"),
    Peer(
        "bytewax",
        "bytewax_batched",
        "bytewax",
        frozenset({"W1", "W1p", "W2", "W3", "W4"}),
        "python",
        closed_gap=True,
    ),
    Peer("pyflink sql", "flink_sql", "pyflink", frozenset({"W1", "W2", "W3", "W4"}), "jvm", closed_gap=True),
    Peer(
        "pyspark",
        "spark_streaming",
        "pyspark",
        frozenset({"W1", "W1p", "W2", "W3", "W4"}),
        "jvm",
        closed_gap=True,
    ),
)


def interpreter_for(peer: Peer) -> str | None:
    """The first interpreter that can import the peer's package; None where it is not installed."""
    for python in (sys.executable, *filter(None, os.environ.get(INTERPRETERS, "").split(os.pathsep))):
        if _imports(python, peer.package):
            return python
    return None


@cache
def _imports(python: str, package: str) -> bool:
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", probe], check=False, capture_output=True).returncode == 0
