"""A look at a running job once a second: shows that its event loop lives, updates figures that move by themselves,
and logs the numbers of records that were passed over, now and then."""

from __future__ import annotations

import logging
from typing import Final

from streamflow.observe.health import Health
from streamflow.observe.logs import told
from streamflow.observe.registry import MetricsRegistry
from streamflow.runners.reporting import Reporter
from streamflow.time.clock import Clock

__all__ = ["Watch"]

_LOG: Final = logging.getLogger("streamflow.records")

_EVERY: Final = 1.0
_TOLD_EVERY: Final = 10.0
_PASSED_OVER: Final = {
    "streamflow_record_errors_total": "records skipped or sent to dead letters",
    "streamflow_late_records_dropped_total": "late records dropped",
}


class Watch:
    """The repeated look at one job."""

    def __init__(self, registry: MetricsRegistry, reporter: Reporter, health: Health, clock: Clock) -> None:
        self._registry = registry
        self._reporter = reporter
        self._health = health
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}
        self._told_at = clock.monotonic()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            try:
                self.look()
            except Exception:  # noqa: BLE001 — a figure that cannot be told must not make a job that runs look dead
                _LOG.exception("the job could not be looked at")
            await self._clock.sleep(_EVERY)

    def look(self) -> None:
        """Looks once."""
        self._health.beat()
        self._reporter.note_holders()
        if self._clock.monotonic() - self._told_at >= _TOLD_EVERY:
            self.tell()

    def tell(self) -> None:
        """Logs the records passed over since the last time."""
        self._told_at = self._clock.monotonic()
        operators = sorted({operator for operator, _ in list(self._registry.operators)})
        totals = {operator: self._registry.totals(operator) for operator in operators}
        for name, message in _PASSED_OVER.items():
            for operator in operators:
                so_far = totals[operator].get(name, 0.0)
                more = so_far - self._told.get((name, operator), 0.0)
                if more > 0:
                    self._told[name, operator] = so_far
                    _LOG.warning(
                        message, extra=told(operator=operator, records=int(more), in_all=int(so_far))
                    )
