"""The address of a job that commands ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamflow.cli.control_client import ControlClient
from streamflow.errors import ConfigError, StreamflowError


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


@pytest.mark.parametrize(("ask", "what"), [(ControlClient.status, "status"), (ControlClient.waits, "answer")])
def test_what_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[ControlClient], object], what: str
) -> None:
    monkeypatch.setattr(ControlClient, "get", lambda client, route: {"waits": 7, "job": 7})
    with pytest.raises(
        StreamflowError, match=f"the {what} of the job at http://a:1 cannot be read"
    ) as caught:
        ask(ControlClient("http://a:1"))
    assert caught.value.hint is not None
    assert "another version" in caught.value.hint
