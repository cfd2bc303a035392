"""Settings: argument over environment over default, text with units, and errors that name what was meant."""

from __future__ import annotations

import typing
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from streamflow.config import RunSettings, Settings, parse_size
from streamflow.errors import ConfigError


def test_every_default_passes_its_own_parser() -> None:
    defaults = Settings()
    given = {each.name: getattr(defaults, each.name) for each in fields(Settings)}
    for name in (
        "checkpoint_interval",
        "restart_delay",
        "restart_max_delay",
        "micro_batch_interval",
        "worker_timeout",
    ):
        given[name] = timedelta(microseconds=given[name])  # which alone has no unit
    assert Settings.resolve(given, environ={}) == defaults


def test_what_a_program_may_say_is_typed() -> None:
    assert tuple(typing.get_type_hints(RunSettings)) == Settings.names()


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"STREAMFLOW_PARALLELISM": "3", "STREAMFLOW_BATCH_ROWS": "1_000", "STREAMFLOW_LINGER": ""}
    settings = Settings.resolve({"parallelism": 2, "mode": None}, environ=environ)
    assert (settings.parallelism, settings.batch_rows) == (2, 1_000)
    assert (settings.mode, settings.restart_delay) == (Settings().mode, Settings().restart_delay)


@pytest.mark.parametrize(
    ("name", "value", "resolved"),
    [
        ("restart_delay", "0s", 0),
        ("restart_delay", timedelta(milliseconds=7), 7_000),
        ("checkpoint_interval", "1m30s", 90_000_000),
        ("channel_bytes", "64MB", 64 << 20),
        ("memory_budget", "1.5GiB", 3 << 29),
        ("memory_budget", "2 k", 2_048),
        ("metrics_port", "0", 0),
        ("state_backend", "memory", "memory"),
        ("log_level", "ERROR", "error"),
    ],
)
def test_text_with_units_is_resolved(name: str, value: Any, resolved: object) -> None:
    assert getattr(Settings.resolve({name: value}, environ={}), name) == resolved


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (
            {"mode": "stream"},
            {},
            "mode is 'stream', not one of auto, streaming, micro-batch, batch; did you mean 'streaming'?",
        ),
        ({"restart_delay": "5 parsecs"}, {}, "restart_delay '5 parsecs' is not a duration"),
        ({"checkpoint_interval": 10}, {}, "checkpoint_interval is 10, which has no unit"),
        ({"restart_delay": 0}, {}, "restart_delay is 0, which has no unit"),
        ({"restart_delay": "-5ms"}, {}, "restart_delay is '-5ms'; it must not be negative"),
        ({"checkpoint_interval": "0s"}, {}, "checkpoint_interval is '0s'; it must be longer than zero"),
        ({"parallelism": 0}, {}, "parallelism is 0; it must be at least 1 and at most 32768"),
        ({"parallelism": 1.5}, {}, "parallelism is 1.5; write a whole number"),
        ({"parallelism": True}, {}, "parallelism is True; write a whole number"),
        ({"parallelism": 4, "max_parallelism": 2}, {}, "parallelism is 4, more than max_parallelism 2"),
        ({"channel_bytes": "many"}, {}, "channel_bytes 'many' is not a size"),
        ({"channel_bytes": 0}, {}, "channel_bytes is 0; it must be at least one byte"),
        ({"state_dir": ""}, {}, "state_dir is ''; write it as text"),
        ({"metrics_port": 70_000}, {}, "metrics_port is 70000; it must be at least 0 and at most 65535"),
        ({"restart_delayy": "5ms"}, {}, "no setting 'restart_delayy'; there are: allow_dropped_state"),
        ({"restart_delayy": "5ms"}, {}, "did you mean 'restart_delay'?"),
        (
            {},
            {"STREAMFLOW_BATCH_ROWS": "lots"},
            "environment variable STREAMFLOW_BATCH_ROWS is 'lots'; write a whole number",
        ),
        (
            {},
            {"STREAMFLOW_PARALELISM": "2"},
            "STREAMFLOW_PARALELISM names no setting; did you mean STREAMFLOW_PARALLELISM?",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: dict[str, Any], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.resolve(arguments, environ=environ)
    assert message in str(caught.value)


def test_a_stranger_in_the_environment_is_left_alone() -> None:
    environ = {
        "STREAMFLOW_SERVICE_HOST": "10.0.0.1",
        "STREAMFLOW_PORT_8080_TCP_PROTO": "tcp",
        "PARALLELISM": "9",
    }
    assert Settings.resolve({}, environ=environ) == Settings()


def test_a_size_is_read_the_same_in_any_spelling() -> None:
    assert {parse_size(text) for text in ("1g", "1GB", "1 GiB", "1024m")} == {1 << 30}


def test_a_key_that_cannot_sign_is_refused_at_once_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="takes 65 bytes, more than 64") as caught:
        Settings.resolve({"checkpoint_key": "x" * 65}, environ={})
    assert "xxxxx" not in str(caught.value)
    assert Settings.resolve({"checkpoint_key": "x" * 64}, environ={}).checkpoint_key is not None
