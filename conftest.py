"""Folders that pytest leaves alone, whichever folder it is called with.

Doctests run through streamflow/: collected at the top, operators/ and state/ would be a second copy of each module.
Benchmarks and examples are programs. And the one fixture of all tests: a Kafka broker.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule

pytest_plugins = ["tests.kafka.broker"]

collect_ignore_glob = ["operators/*", "state/*", "benchmarks/*", "reliability/*", "examples/*"]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Looks for doctests in files that have some: to go over the objects of all modules takes each process seconds."""
    found = yield
    if any(isinstance(each, DoctestModule) for each in found) and b">>>" not in file_path.read_bytes():
        found = [each for each in found if not isinstance(each, DoctestModule)]
    return found
