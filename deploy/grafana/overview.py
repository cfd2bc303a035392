"""The dashboard that one looks at first: is it running, how fast, how far is event time, what slows it down."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Query, Row, bars, graph, number, word

__all__ = ["OVERVIEW"]

_HERE: Final = 'job="$job", operator=~"$operator"'

_HEALTH: Final = Row(
    "Health",
    [
        word(
            "State",
            "starting, running, restarting, stopping or failed; one word for each copy of the program.",
            Query('streamflow_job_state{job="$job"} == 1', "{{state}}"),
            width=3,
            colors={
                "running": "green",
                "starting": "yellow",
                "restarting": "orange",
                "stopping": "orange",
                "failed": "red",
            },
        ),
        number(
            "Alerts",
            "Alerts of Prometheus that fire for this job; see Alerting, or the page of alerts in Prometheus.",
            'count(ALERTS{alertstate="firing", job="$job"}) or vector(0)',
            unit="none",
            width=3,
            thresholds=[(1, "red")],
        ),
        number(
            "Read",
            "Records that the job's sources have read per second (they alone count events of the future).",
            'sum(rate(streamflow_records_in_total{job="$job"}[$__rate_interval])'
            " and on (job, instance, operator, subtask) streamflow_future_events_total)",
            unit="cps",
            width=3,
        ),
        number(
            "Farthest behind",
            "How far event time is behind the clock, at the source or operator where it is farthest.",
            'max(streamflow_watermark_lag_seconds{job="$job"})',
            unit="s",
            width=3,
        ),
        number(
            "Restarts",
            "How often the job has gone back to a checkpoint since its process was started.",
            'sum(streamflow_restarts_total{job="$job"})',
            unit="none",
            width=3,
            thresholds=[(1, "yellow"), (5, "red")],
        ),
        number(
            "Checkpoint age",
            "Time since the last checkpoint was published: what a crash would repeat.",
            'max(streamflow_checkpoint_age_seconds{job="$job"})',
            unit="s",
            width=3,
            thresholds=[(60, "yellow"), (300, "red")],
        ),
        number(
            "Uptime",
            "Since the process started the job; the shortest where there are several copies.",
            'min(streamflow_job_uptime_seconds{job="$job"})',
            unit="s",
            width=3,
        ),
        word(
            "Program",
            "The version of streamflow, and the mode that the job runs in.",
            Query('streamflow_job_info{job="$job"}', "{{version}} {{mode}}"),
            width=3,
        ),
    ],
)

_THROUGHPUT: Final = Row(
    "Throughput",
    [
        graph(
            "Records in",
            "Records that an operator takes in, per second, over all of its subtasks.",
            Query(
                f"sum by (operator) (rate(streamflow_records_in_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="cps",
        ),
        graph(
            "Records out",
            "Records that an operator hands on or a sink writes, per second. Windows give few for many.",
            Query(
                f"sum by (operator) (rate(streamflow_records_out_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="cps",
        ),
        graph(
            "Bytes in",
            "Bytes that sources read and operators take in, per second, where they are known.",
            Query(
                f"sum by (operator) (rate(streamflow_bytes_in_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="binBps",
        ),
        graph(
            "Bytes out",
            "Bytes that an operator hands on or a sink writes, per second, where they are known.",
            Query(
                f"sum by (operator) (rate(streamflow_bytes_out_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="binBps",
        ),
    ],
)

_EVENT_TIME: Final = Row(
    "Event time",
    [
        graph(
            "Watermark lag",
            "The clock minus the watermark, of an operator's slowest subtask. A straight climb is an event time that "
            "stands still; a fall is a job that catches up.",
            Query(f"max by (operator) (streamflow_watermark_lag_seconds{{{_HERE}}})", "{{operator}}"),
            unit="s",
        ),
        graph(
            "Held back by",
            "The split that keeps each source's subtask from going on in event time, and by how much. A split to "
            "which nothing is written can be left out of account (idle_after).",
            Query(
                f"max by (operator, subtask, split) (streamflow_watermark_holder_lag_seconds{{{_HERE}}})",
                "{{operator}}/{{subtask}}: {{split}}",
            ),
            unit="s",
        ),
        graph(
            "Speed of event time",
            "Seconds of event time per second: 1 is as fast as life, more is catching up, 0 stands still.",
            Query(
                "min by (operator) (deriv(streamflow_watermark_timestamp_seconds"
                f"{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="none",
        ),
        graph(
            "Late and early records",
            "Records per second that came when all of their windows were complete (late: to the late output; dropped: "
            "nowhere), whose time is too far ahead to be believed, or lies between two windows; duplicates of others, "
            "and rows of a table without a key.",
            Query(f"sum(rate(streamflow_late_records_total{{{_HERE}}}[$__rate_interval]))", "late"),
            Query(
                f"sum(rate(streamflow_late_records_dropped_total{{{_HERE}}}[$__rate_interval]))", "dropped"
            ),
            Query(f"sum(rate(streamflow_future_events_total{{{_HERE}}}[$__rate_interval]))", "of the future"),
            Query(
                f"sum(rate(streamflow_records_in_no_window_total{{{_HERE}}}[$__rate_interval]))",
                "in no window",
            ),
            Query(
                f"sum(rate(streamflow_records_duplicate_total{{{_HERE}}}[$__rate_interval]))", "duplicates"
            ),
            Query(
                f"sum(rate(streamflow_table_rows_without_key_total{{{_HERE}}}[$__rate_interval]))",
                "without key",
            ),
            Query(
                f"sum(rate(streamflow_withdrawals_of_forgotten_rows_total{{{_HERE}}}[$__rate_interval]))",
                "of forgotten rows",
            ),
            unit="cps",
        ),
    ],
)

_LOAD: Final = Row(
    "Load",
    [
        graph(
            "Busy",
            "Share of its time that the busiest subtask of an operator works. Operators that run in one task share "
            "this figure. The one near 100 % behind others that are held back is the bottleneck.",
            Query(
                f"max by (operator) (rate(streamflow_busy_seconds_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="percentunit",
            width=8,
            most=1,
        ),
        graph(
            "Held back",
            "Share of its time that a subtask waits for room downstream (backpressure). While a job catches up that "
            "is as it should be.",
            Query(
                "max by (operator) "
                f"(rate(streamflow_backpressured_seconds_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="percentunit",
            width=8,
            most=1,
            thresholds=[(0.8, "red")],
        ),
        bars(
            "The last second",
            "The operators with the busiest subtasks, those held back most and those least idle, in the last second.",
            Query(f"topk(4, max by (operator) (streamflow_busy_ratio{{{_HERE}}}))", "{{operator}} busy"),
            Query(
                f"topk(4, max by (operator) (streamflow_backpressured_ratio{{{_HERE}}}))",
                "{{operator}} held back",
            ),
            Query(f"bottomk(4, min by (operator) (streamflow_idle_ratio{{{_HERE}}}))", "{{operator}} idle"),
            unit="percentunit",
            width=8,
            most=1,
        ),
    ],
)

_OF_JOB: Final = '* on (instance) group_left (job) streamflow_job_info{job="$job"}'

_PROCESS: Final = Row(
    "Process",
    [
        graph(
            "Memory",
            "What the process has in memory, on Linux. Growth without end: state or windows that nobody drops.",
            Query(f"process_resident_memory_bytes {_OF_JOB}", "{{instance}}"),
            unit="bytes",
            width=8,
        ),
        graph(
            "Processor",
            "Processor time per second: 1 is one core all the time.",
            Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {_OF_JOB}", "{{instance}}"),
            unit="none",
            width=8,
        ),
        graph(
            "Open files",
            "Files and connections that the process has open.",
            Query(f"process_open_fds {_OF_JOB}", "{{instance}}"),
            unit="none",
            width=8,
        ),
    ],
)

_QUALITY: Final = Row(
    "What is left out",
    [
        graph(
            "Bad records",
            "Records per second that could not be decoded or whose function raised: skipped, or in the dead letters.",
            Query(
                f"sum by (operator) (rate(streamflow_record_errors_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="cps",
            width=20,
        ),
        number(
            "Series not shown",
            "Series beyond the limit of a scrape, which neither dashboards nor alerts see.",
            'max(streamflow_metrics_series_left_out{job="$job"})',
            unit="none",
            thresholds=[(1, "orange")],
        ),
    ],
)

OVERVIEW: Final = Dashboard(
    uid="streamflow-overview",
    title="Job overview",
    description="Is it running, how fast, how far is event time, what slows it down.",
    rows=[_HEALTH, _THROUGHPUT, _EVENT_TIME, _LOAD, _PROCESS, _QUALITY],
)
