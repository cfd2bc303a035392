"""The dashboard of a job's state and checkpoints: how old, how long, how large, and what they cost."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Query, Row, graph, number

__all__ = ["CHECKPOINTS"]

_JOB: Final = 'job="$job"'
_HERE: Final = 'job="$job", operator=~"$operator"'

_LAST: Final = Row(
    "The last checkpoint",
    [
        number(
            "Number",
            "Its number: what `streamflow checkpoints` and `--restore DIR#NUMBER` call it.",
            f"max(streamflow_checkpoint_number{{{_JOB}}})",
            unit="none",
        ),
        number(
            "Age now",
            "Time since it was published: what a crash would repeat.",
            f"max(streamflow_checkpoint_age_seconds{{{_JOB}}})",
            unit="s",
            thresholds=[(60, "yellow"), (300, "red")],
        ),
        number(
            "Last duration",
            "From its barriers to its publication.",
            f"max(streamflow_checkpoint_duration_seconds{{{_JOB}}})",
            unit="s",
            thresholds=[(10, "yellow"), (60, "red")],
        ),
        number(
            "Last size",
            "All that it consists of, with the files that it shares with those before: the size of the state.",
            f"sum(streamflow_checkpoint_size_bytes{{{_JOB}}})",
            unit="bytes",
        ),
        number(
            "Failures",
            "Checkpoints that could not be stored in the time shown; checkpoint_failures in a row fail the job.",
            f"sum(increase(streamflow_checkpoint_failures_total{{{_JOB}}}[$__range]))",
            unit="none",
            thresholds=[(1, "red")],
        ),
        number(
            "Restarts",
            "How often the job has gone back to a checkpoint in the time shown.",
            f"sum(increase(streamflow_restarts_total{{{_JOB}}}[$__range]))",
            unit="none",
            thresholds=[(1, "yellow"), (5, "red")],
        ),
    ],
)

_COURSE: Final = Row(
    "Checkpoints",
    [
        graph(
            "Age",
            "Time since the last one was published: a saw as high as the checkpoint interval and the duration.",
            Query(f"streamflow_checkpoint_age_seconds{{{_JOB}}}", "{{instance}}"),
            unit="s",
            thresholds=[(300, "red")],
        ),
        graph(
            "Duration",
            "From a checkpoint's barriers to its publication. It grows with what has changed since the one before.",
            Query(f"streamflow_checkpoint_duration_seconds{{{_JOB}}}", "{{instance}}"),
            unit="s",
        ),
        graph(
            "Size",
            "All that the last one consists of. State that grows without end has keys or windows that nobody drops.",
            Query(f"streamflow_checkpoint_size_bytes{{{_JOB}}}", "{{instance}}"),
            unit="bytes",
        ),
        graph(
            "Published and failed",
            "Checkpoints per second; how often old ones could not be removed.",
            Query(f"sum(rate(streamflow_checkpoints_total{{{_JOB}}}[$__rate_interval]))", "published"),
            Query(f"sum(rate(streamflow_checkpoint_failures_total{{{_JOB}}}[$__rate_interval]))", "failed"),
            Query(
                f"sum(rate(streamflow_checkpoint_retention_failures_total{{{_JOB}}}[$__rate_interval]))",
                "not removed",
            ),
            unit="ops",
        ),
    ],
)

_COST: Final = Row(
    "What they cost",
    [
        graph(
            "Pause at a barrier",
            "How long the last barrier kept a subtask from its records: what snapshots cost in latency.",
            Query(f"max by (operator) (streamflow_barrier_pause_seconds{{{_HERE}}})", "{{operator}}"),
            unit="s",
        ),
        graph(
            "Restarts so far",
            "How often the job has gone back to a checkpoint since its process was started.",
            Query(f"streamflow_restarts_total{{{_JOB}}}", "{{instance}}"),
            unit="none",
        ),
    ],
)

CHECKPOINTS: Final = Dashboard(
    uid="streamflow-checkpoints",
    title="State and checkpoints",
    description="A job's state and checkpoints: how old, how long, how large, and what they cost.",
    rows=[_LAST, _COURSE, _COST],
)
