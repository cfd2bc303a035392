"""The output of the commands on saved state has the form that it claims."""

from __future__ import annotations

import json

import polars as pl

from streamflow.cli.state_output import shown


def test_json_has_neither_nan_nor_infinity() -> None:
    frame = pl.DataFrame(
        {"f": [float("nan"), 1.5], "l": [[float("inf"), 1.0], None], "s": [{"x": float("-inf")}, {"x": 0.0}]}
    )

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(shown({"": frame}, as_json=True), parse_constant=refuse) == [
        {"f": None, "l": [None, 1.0], "s": {"x": None}},
        {"f": 1.5, "l": None, "s": {"x": 0.0}},
    ]
