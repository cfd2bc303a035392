"""Values that functions of a job use: a worker whose import of the file has others does not run the job."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import streamflow as sf
from streamflow.errors import ConfigError
from streamflow.graph.logical import LogicalGraph
from streamflow.runners.used_values import check_values, used_values

FILE = """
import argparse, dataclasses, functools, enum
import polars as pl
import streamflow as sf

class Kind(enum.Enum):
    A = 1
    B = 2

@dataclasses.dataclass
class Scale:
    by: int = 1
    def __call__(self, row):
        return {"n": row["n"] * self.by}

class Counting(sf.KeyedProcess):
    seen = sf.ValueState(int, default=0)
    output = {"n": sf.Int64}
    def __init__(self, least=1):
        self.least = least
        self.started = None
    def open(self):
        self.started = object()
    def on_event(self, event, ctx):
        if event["n"] > LEAST + self.least:
            ctx.emit({"n": 1})

FACTOR = 1
LEAST = 1
CONFIG = {"add": [1, 2]}
KIND = Kind.A
NAMES = frozenset(["a", "b", "c"])
ARGS = argparse.Namespace(limit=5)
SCALE = Scale()
CACHE = {}
CALLS = 0
SEEN = []
rows = [{"n": 1}, {"n": 2}]
chosen = list(range(100))

def helped(n):
    return n * FACTOR

def used(row):
    global CALLS
    CALLS += 1
    SEEN.append(row)
    CACHE[row["n"]] = row
    return row

def read(row):
    return {"n": helped(row["n"]) + CONFIG["add"][0] + ARGS.limit + KIND.value + len(NAMES)}

def by(factor):
    return lambda row: {"n": row["n"] * factor}

def build(factor=1, power=1, default=1, scale=SCALE, least=1, data=rows, within=chosen):
    job = sf.Job("used")
    s = job.read(sf.MemorySource(data, schema={"n": sf.Int64})).filter(sf.col("n").is_in(within))
    s = s.map(used, schema={"n": sf.Int64}).map(read, schema={"n": sf.Int64}).map(by(factor), schema={"n": sf.Int64})
    s = s.map(functools.partial(lambda power, row: row, power), schema={"n": sf.Int64})
    s = s.map(lambda row, default=default: row, schema={"n": sf.Int64}).map(scale, schema={"n": sf.Int64})
    s.key_by("n").process(Counting(least)).collect()
    return job
"""


@pytest.fixture
def imported(tmp_path: Path) -> Callable[[], Any]:
    file = tmp_path / "used.py"
    file.write_text(FILE)

    def module() -> ModuleType:
        spec = importlib.util.spec_from_file_location("used_by_job", file)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        import sys

        sys.modules[spec.name] = made
        spec.loader.exec_module(made)
        return made

    return module


def check(worker: LogicalGraph, coordinator: LogicalGraph) -> None:
    check_values(used_values(worker), used_values(coordinator))


def test_an_import_is_like_another(imported: Callable[[], Any]) -> None:
    check(imported().build().graph, imported().build().graph)


def set_config(module: Any) -> None:
    module.CONFIG["add"][0] = 7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda module: setattr(module, "FACTOR", 2), "FACTOR of helped"),
        (lambda module: setattr(module, "LEAST", 2), "LEAST of Counting.on_event"),
        (lambda module: setattr(module, "KIND", module.Kind.B), "KIND of read"),
        (lambda module: setattr(module, "NAMES", frozenset(["a", "b"])), "NAMES of read"),
        (lambda module: setattr(module.ARGS, "limit", 6), "ARGS of read"),
        (set_config, "CONFIG of read"),
    ],
)
def test_a_global_that_is_set_behind_the_import_is_named(
    change: Callable[[Any], None], named: str, imported: Callable[[], Any]
) -> None:
    here, there = imported(), imported()
    job = there.build()
    change(there)
    with pytest.raises(ConfigError, match=f"(map-.|process-1), {named}; workers import"):
        check(here.build().graph, job.graph)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"factor": 2}, "map-3, factor of by.<locals>.<lambda>"),
        ({"default": 2}, "map-5, defaults of build.<locals>.<lambda>"),
        ({"power": 2}, "map-4"),
        ({"least": 2}, "process-1"),
        ({"data": [{"n": 1}, {"n": 3}]}, "read-1"),
        ({"data": [{"n": 2}, {"n": 1}]}, "read-1"),
        ({"within": [*range(50), 1_000, *range(51, 100)]}, "filter-1"),
    ],
)
def test_an_argument_of_another_round_is_named(
    given: dict[str, Any], named: str, imported: Callable[[], Any]
) -> None:
    with pytest.raises(ConfigError, match=f"was started: {re.escape(named)}; workers import"):
        check(imported().build().graph, imported().build(**given).graph)


def test_what_functions_change_themselves_may_differ(imported: Callable[[], Any]) -> None:
    here, there = imported(), imported()
    job = there.build()
    there.CALLS, there.CACHE[1] = 3, {"n": 1}
    there.SEEN.append({"n": 1})
    check(here.build().graph, job.graph)


def test_an_object_with_another_attribute_is_no_surprise(imported: Callable[[], Any]) -> None:
    there = imported()
    with pytest.raises(ConfigError, match="was started: map-6; workers import"):
        check(imported().build().graph, there.build(scale=there.Scale(3)).graph)


def test_much_data_is_looked_at_no_longer_than_it_pays() -> None:
    job = sf.Job("much")
    job.read(sf.MemorySource(list(range(300_000)), schema=sf.OBJECTS)).map(lambda row: row).collect()
    assert len(used_values(job.graph)) == 3
