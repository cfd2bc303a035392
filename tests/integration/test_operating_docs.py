"""docs/operating.md names what there is: metrics, loggers, settings, files, commands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import streamflow as sf
from streamflow.cli.main import app
from streamflow.config import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
TABLE = "".join(re.findall(r"^\| `streamflow_.*\|$", TEXT, re.MULTILINE))
SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for folder in ("streamflow", "operators", "state")
    for path in (ROOT / folder).rglob("*.py")
)


def names_of_a_job(**settings: Any) -> set[str]:
    async def whole() -> set[str]:
        job = sf.Job("named")
        read = job.read(sf.MemorySource([{"k": "a", "t": 1}]), event_time=sf.epoch("t"))
        read.key_by("k").window(sf.tumbling("1s")).aggregate(n=sf.count()).collect()
        handle = await job.start(**settings)
        await handle.wait()
        return {metric.name for metric in handle.registry}

    return asyncio.run(whole())


def test_every_metric_of_a_job_is_in_the_table(tmp_path: Path) -> None:
    found = names_of_a_job(checkpoint_dir=str(tmp_path))
    assert "streamflow_checkpoint_age_seconds" in found
    assert sorted(name for name in found if f"`{name}" not in TABLE) == []


def test_every_metric_that_is_named_in_one_piece_is_in_the_table() -> None:
    named = set(
        re.findall(r'"(streamflow_[a-z_]+_(?:total|seconds|bytes|records|offset|ratio|state|info))"', SOURCES)
    )
    examples = {"streamflow_lag_records"}
    assert sorted(name for name in named - examples if f"`{name}" not in TABLE) == []


def test_every_metric_in_the_table_is_one_that_there_is(tmp_path: Path) -> None:
    real = names_of_a_job(checkpoint_dir=str(tmp_path))
    documented = re.findall(r"`(streamflow_[a-z_]+)", TABLE)
    assert len(documented) == len(set(documented))
    assert [name for name in documented if name not in real and f'"{name}"' not in SOURCES] == []


def test_settings_loggers_files_and_commands_are_there() -> None:
    for variable in re.findall(r"STREAMFLOW_([A-Z_]+)", TEXT):
        assert variable.lower() in Settings.names()
    loggers = re.findall(r"`(streamflow\.[a-z]+)`", TEXT)
    assert [name for name in loggers if f'getLogger("{name}")' not in SOURCES] == []
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists()
    commands = set(re.findall(r"streamflow (run|status|top|stop|state|savepoint|checkpoints)\b", TEXT))
    assert commands <= set(app)
