"""The address of a job that commands ask."""

from __future__ import annotations

import pytest

from streamflow.cli.control_client import ControlClient
from streamflow.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hush@127.0.0.1:7070",
        "http://user:hush@127.0.0.1:port/",
        "http://127.0.0.1:7070/jobs?token=hush",
        "127.0.0.1:7070/#hush",
        "user:hush@host/path",
    ],
)
def test_what_may_be_a_password_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="nothing more") as caught:
        ControlClient(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "http://127.0.0.1:port", "http://127.0.0.1/jobs"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a job's URL"):
        ControlClient(url)
