"""Write the dashboards as the JSON files that Grafana reads: `python -m deploy.grafana`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.grafana.checkpoints import CHECKPOINTS
from deploy.grafana.kafka import KAFKA
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panels import Dashboard
from deploy.grafana.workers import WORKERS

__all__ = ["DASHBOARDS", "FOLDER", "text"]

FOLDER: Final = Path(__file__).parent / "dashboards"

DASHBOARDS: Final[Mapping[str, Dashboard]] = {
    "overview.json": OVERVIEW,
    "kafka.json": KAFKA,
    "checkpoints.json": CHECKPOINTS,
    "workers.json": WORKERS,
}


def text(dashboard: Dashboard) -> str:
    """A dashboard's file."""
    return json.dumps(dashboard.model(), indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(text(dashboard), encoding="utf-8")
