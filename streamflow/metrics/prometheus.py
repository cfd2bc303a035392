"""The Prometheus exporter: reads the registry's numbers when it is scraped, so that nothing is added to a hot path.

Names, help texts and kinds are the registry's own; each series gets the label `job` beside its own. The page has no
authentication, so it is bound to the loopback address unless another one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from socketserver import ThreadingMixIn
from threading import Thread  # noqa: TID251  (answers scrapes beside the job; it touches nothing but numbers)
from typing import Any, Final, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app  # pyright: ignore[reportUnknownVariableType]
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamflow.errors import ConfigError
from streamflow.metrics.registry import Metric as Handle
from streamflow.metrics.registry import MetricsRegistry

__all__ = ["MAX_SERIES", "MetricsServer", "RegistryCollector", "serve"]

MAX_SERIES: Final = 10_000
"""How many series a scrape gives at most; the rest are counted in `streamflow_metrics_series_left_out`."""

_CLOSE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05
_LARGEST_PORT: Final = 65_535


class RegistryCollector(Collector):
    """A registry as Prometheus metric families, made anew for each scrape.

    >>> registry = MetricsRegistry("demo")
    >>> registry.operator("map-1", 0).records_in.add(3)
    >>> [family.name for family in RegistryCollector(registry).collect()][:2]
    ['streamflow_records_in', 'streamflow_records_out']
    """

    def __init__(self, registry: MetricsRegistry, max_series: int = MAX_SERIES) -> None:
        self._registry = registry
        self._max_series = max_series

    def collect(self) -> Iterator[Metric]:
        families: dict[str, list[Handle]] = {}
        series = left_out = 0
        for handle in self._registry:
            if series >= self._max_series:
                left_out += 1
                continue
            series += 1
            families.setdefault(handle.name, []).append(handle)
        for handles in families.values():
            # Series of one name may have different labels; an empty one is, to Prometheus, one that is not there.
            labels = list(dict.fromkeys(label for handle in handles for label in handle.labels))
            family = _family(handles[0], ["job", *labels])
            for handle in handles:
                values = [handle.labels.get(label, "") for label in labels]
                family.add_metric([self._registry.job, *values], handle.value)
            yield family
        limit = GaugeMetricFamily(
            "streamflow_metrics_series_left_out",
            f"Series beyond the first {self._max_series}, which are not shown",
            labels=["job"],
        )
        limit.add_metric([self._registry.job], left_out)
        yield limit


class MetricsServer:
    """A running exporter; `close` stops it and waits for it, at most a few hundredths of a second."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._thread = Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True)
        self._thread.start()
        self._closed = False

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_port)

    @property
    def address(self) -> str:
        """The address it listens on."""
        return str(self._server.server_address[0])

    def close(self) -> None:
        """Stop listening; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_CLOSE_SECONDS)


def serve(registry: MetricsRegistry, port: int, address: str = "127.0.0.1") -> MetricsServer:
    """Serve the registry at `http://address:port/metrics` from a thread; port 0 takes any free one.

    Raises ConfigError where it cannot listen.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise ConfigError(
            f"the metrics port is {port}", hint=f"use 1 to {_LARGEST_PORT}, or 0 for any free one"
        )
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(RegistryCollector(registry))
    try:
        server = (_Server6 if ":" in address else _Server)((address, port), _QuietHandler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"metrics cannot be served at {address}:{port}: {error}",
            hint="choose another port, or 0 for any free one",
        ) from error
    server.set_app(cast("Any", make_wsgi_app(collectors)))
    return MetricsServer(server)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each scrape, so that a client that hangs holds up nobody."""

    daemon_threads = True
    address_family = AF_INET


class _Server6(_Server):
    address_family = AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """Gives up on slow clients and logs nothing."""

    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not worth a log line."""


def _family(handle: Handle, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    if handle.kind == "counter":
        # The client adds the `_total` that the registry's name has already.
        return CounterMetricFamily(handle.name.removesuffix("_total"), handle.help, labels=labels)
    return GaugeMetricFamily(handle.name, handle.help, labels=labels)
