"""`--set key=value` as a mapping."""

from __future__ import annotations

import pytest

from streamflow.cli.parameters import assignments
from streamflow.errors import ConfigError


def test_the_last_value_of_a_key_counts_and_dashes_are_underscores() -> None:
    assert assignments(["batch-rows=1", "batch_rows = 2", "empty="]) == {"batch_rows": "2", "empty": ""}


@pytest.mark.parametrize("text", ["restart_delay", "=5ms", " =5ms"])
def test_what_is_not_key_value_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--set .* is not key=value; write it like --set restart_delay=20ms"
    ):
        assignments([text])
