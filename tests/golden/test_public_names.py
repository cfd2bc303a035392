"""The public names of every public class: a new one shows here, and is decided on. See `public_names.txt`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf

LISTED = Path(__file__).with_name("public_names.txt")


def shown(value: object) -> list[str]:
    """The names of `dir()` beside Python's own; of an exception, beside those of every exception."""
    kind = value if isinstance(value, type) else type(value)
    common = set(dir(Exception)) if issubclass(kind, BaseException) else set()
    return sorted(name for name in dir(value) if not name.startswith("_") and name not in common)


def public_classes() -> dict[str, Any]:
    exported = {name: getattr(sf, name) for name in sf.__all__}
    # Polars' types are Polars'.
    return {
        name: each
        for name, each in exported.items()
        if inspect.isclass(each) and not issubclass(each, pl.DataType)
    }


def listed() -> dict[str, list[str]]:
    lines = [line for line in LISTED.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {name: names.split() for name, _, names in (line.partition(":") for line in lines)}


def test_public_classes_have_the_names_that_are_listed() -> None:
    assert {name: shown(each) for name, each in public_classes().items()} == listed()


def handed_out() -> dict[str, Any]:
    """Results of methods: objects with attributes of their own."""
    job = sf.Job("names")
    stream = job.read(sf.MemorySource([{"k": "a", "ts": 0}]), event_time=sf.epoch("ts", unit="s"))
    keyed = stream.key_by("k")
    windowed = keyed.window(sf.tumbling("1h"))
    return {
        "Job": job,
        "Stream": stream,
        "KeyedStream": keyed,
        "WindowedStream": windowed,
        "AggregatedStream": windowed.count(),
        "Collected": stream.collect(),
    }


@pytest.mark.parametrize(("name", "value"), handed_out().items())
def test_objects_have_no_more_names_than_their_class(name: str, value: object) -> None:
    assert set(shown(value)) - {"name"} == set(listed().get(name, shown(type(value))))
