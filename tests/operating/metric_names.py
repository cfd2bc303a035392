"""The metrics' names as others write them: in dashboards, in alert rules, in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from deploy.grafana.panels import Dashboard

__all__ = ["ROOT", "documented", "named_in", "shown_by"]

ROOT = Path(__file__).parents[2]


def named_in(text: str) -> set[str]:
    """The metrics that a text names."""
    return set(re.findall(r"\bstreamflow_[a-z_]+", text))


def shown_by(dashboards: Iterable[Dashboard]) -> set[str]:
    """The metrics that some panel shows."""
    targets = [
        target["expr"]
        for dashboard in dashboards
        for panel in dashboard.model()["panels"]
        for target in panel.get("targets", [])
    ]
    return named_in("\n".join(targets))


def documented() -> set[str]:
    """The metrics of the table in docs/operating.md."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    return named_in("\n".join(line for line in text.splitlines() if line.startswith("| `streamflow_")))
