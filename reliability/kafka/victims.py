"""Processes of the job between two topics, as their parent starts and watches them."""

import time
from collections.abc import Callable
from typing import Any

from reliability.kafka.flow import Site
from reliability.points import Point
from reliability.process import Victim

INTERVAL = "60ms"
"""Between checkpoints: a dozen epochs a second are published."""
_LOOK_SECONDS = 0.01


def start(site: Site, *, die_at: Point | None = None, output: str = "said", **options: Any) -> Victim:
    """A process of the job at this site; options as in `reliability.kafka.victim`."""
    site.root.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"bootstrap": site.bootstrap, "name": site.name, "interval": INTERVAL, **options}
    return Victim.start(site, die_at=die_at, module="reliability.kafka.victim", output=output, **told)


def commits(victim: Victim) -> list[float]:
    """When it has published an epoch, by the machine's monotonic clock."""
    return [line["committed"] for line in victim.said() if "committed" in line]


def until(victim: Victim, holds: Callable[[], bool], seconds: float) -> bool:
    """Waits for it; False when the process has ended without it, or it takes too long."""
    last = time.monotonic() + seconds
    while not holds():
        if victim.process.poll() is not None or time.monotonic() > last:
            return holds()
        time.sleep(_LOOK_SECONDS)
    return True
