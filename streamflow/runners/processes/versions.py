"""Versions of what a worker runs on, which have to be the coordinator's: plans and state are made by both."""

from __future__ import annotations

import platform

import polars as pl

from streamflow.distribution import __version__
from streamflow.errors import ConfigError
from streamflow.runtime.control.messages import Hello

__all__ = ["check_versions", "own_versions"]


def own_versions() -> dict[str, str]:
    """The versions in this process, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"streamflow": __version__, "polars": pl.__version__, "python": python}


def check_versions(hello: Hello) -> None:
    """Raises ConfigError for a worker with another version than this process, the coordinator's.

    >>> check_versions(Hello(0, 0, 1, "a", "", own_versions()))
    >>> check_versions(Hello(2, 0, 1, "b", "", own_versions() | {"polars": "0.20.1"}))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    streamflow.errors.ConfigError: worker 2 on host b has polars 0.20.1, and the coordinator has ...
    """
    for name, own in own_versions().items():
        there = hello.versions.get(name, "none")
        if there != own:
            raise ConfigError(
                f"worker {hello.place} on host {hello.host} has {name} {there}, and the coordinator has {own}",
                hint="install the same versions on all hosts, or run one image",
            )
