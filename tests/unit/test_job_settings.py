"""A job file's own settings: typed like their default, found while the file is loaded."""

from __future__ import annotations

import pytest

from streamflow.errors import ConfigError, JobDefinitionError
from streamflow.job_settings import handed_over, setting


def test_without_a_command_line_there_is_the_default() -> None:
    assert setting("input", "data.csv") == "data.csv"


def test_a_value_handed_over_has_the_type_of_the_default() -> None:
    given = {"input": "x.csv", "limit": "7", "share": "0.5", "loud": "yes"}
    with handed_over(given) as handed:
        values = setting("input", ""), setting("limit", 1), setting("share", 1.0), setting("loud", False)
    assert values == ("x.csv", 7, 0.5, True)
    assert handed.asked == set(given)
    assert setting("limit", 1) == 1


@pytest.mark.parametrize(
    ("default", "message"),
    [(1, "a whole number, like its default 1"), (1.0, "a number, like"), (True, "true or false, like")],
)
def test_a_value_of_another_type_is_refused(default: int | float | bool, message: str) -> None:
    with handed_over({"limit": "many"}), pytest.raises(ConfigError, match=message):
        setting("limit", default)


def test_a_runtime_setting_cannot_be_a_job_s_own() -> None:
    with pytest.raises(JobDefinitionError, match="'restore' is one of the runtime's"):
        setting("restore", "5ms")
