"""The dashboard of a job's workers, where it runs on several processes: their memory, processor time and open files."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Query, Row, graph

__all__ = ["WORKERS"]

_JOB: Final = 'job="$job"'

_PROCESSES: Final = Row(
    "Processes",
    [
        graph(
            "Memory of workers",
            "What each worker has in memory. Growth without end: state or windows that nobody drops.",
            Query(f"streamflow_worker_resident_memory_bytes{{{_JOB}}}", "{{worker}}"),
            unit="bytes",
        ),
        graph(
            "Processor of workers",
            "Processor time per second of each worker: 1 is one core all the time.",
            Query(f"rate(streamflow_worker_cpu_seconds_total{{{_JOB}}}[$__rate_interval])", "{{worker}}"),
            unit="none",
        ),
        graph(
            "Open files of workers",
            "Files and connections that each worker has open.",
            Query(f"streamflow_worker_open_fds{{{_JOB}}}", "{{worker}}"),
            unit="none",
        ),
        graph(
            "Messages that do not count",
            "Messages of workers, or of attempts, that were replaced: a worker that was cut off and came back.",
            Query(f"sum(increase(streamflow_fenced_messages_total{{{_JOB}}}[$__rate_interval]))", "messages"),
            unit="none",
        ),
    ],
)

WORKERS: Final = Dashboard(
    uid="streamflow-workers",
    title="Workers",
    description="A job's workers, where it runs on several processes: memory, processor time, open files.",
    rows=[_PROCESSES],
)
