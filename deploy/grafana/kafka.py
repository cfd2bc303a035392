"""The dashboard of what a job reads from Kafka and writes there: lag, positions, the outbox and its publications."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Query, Row, graph, number

__all__ = ["KAFKA"]

_HERE: Final = 'job="$job", operator=~"$operator"'
_SILENCE: Final = 'time() - max(streamflow_publication_timestamp_seconds{job="$job"})'

_NOW: Final = Row(
    "Now",
    [
        number(
            "Lag",
            "Records in the topics behind the job's positions, over all partitions.",
            f"sum(streamflow_kafka_lag_records{{{_HERE}}})",
            unit="short",
            thresholds=[(10_000, "yellow"), (1_000_000, "red")],
        ),
        number(
            "Most behind",
            "Records that the partition is behind that is farthest behind.",
            f"max(streamflow_kafka_lag_records{{{_HERE}}})",
            unit="short",
            thresholds=[(10_000, "yellow"), (1_000_000, "red")],
        ),
        number(
            "Partitions",
            "Partitions that the job reads.",
            f"count(streamflow_kafka_offset{{{_HERE}}})",
            unit="none",
        ),
        number(
            "In the outbox",
            "Records that are written, and not visible yet: they are published with the next checkpoint.",
            f"sum(streamflow_outbox_records{{{_HERE}}})",
            unit="short",
        ),
        number(
            "Last publication",
            "Seconds since output became visible. At least one checkpoint interval where there is output.",
            _SILENCE,
            unit="s",
            thresholds=[(60, "yellow"), (120, "red")],
        ),
        number(
            "Retries",
            "Attempts to publish that failed in the time shown. Nothing is lost or repeated by one.",
            f"sum(increase(streamflow_publication_retries_total{{{_HERE}}}[$__range]))",
            unit="none",
            thresholds=[(1, "yellow"), (10, "red")],
        ),
    ],
)

_READING: Final = Row(
    "Reading",
    [
        graph(
            "Lag by source",
            "Records behind the end of all partitions. It climbs while more is written than read.",
            Query(f"sum by (operator) (streamflow_kafka_lag_records{{{_HERE}}})", "{{operator}}"),
            unit="short",
        ),
        graph(
            "Lag by partition",
            "Records behind the end of each partition; ones that are not committed yet do not count. If one climbs "
            "alone, look at its leader.",
            Query(f"sum by (split) (streamflow_kafka_lag_records{{{_HERE}}})", "{{split}}"),
            unit="short",
        ),
        graph(
            "Positions",
            "Offsets per second that the job gets on in each partition; 0 where nothing comes.",
            Query(
                f"sum by (split) (deriv(streamflow_kafka_offset{{{_HERE}}}[$__rate_interval]))", "{{split}}"
            ),
            unit="cps",
        ),
        graph(
            "Time to catch up",
            "Lag divided by the records read per second: how long the job needs at this pace, if nothing more came.",
            Query(
                f"sum by (operator) (streamflow_kafka_lag_records{{{_HERE}}}) / clamp_min("
                f"sum by (operator) (rate(streamflow_records_in_total{{{_HERE}}}[$__rate_interval])), 1)",
                "{{operator}}",
            ),
            unit="s",
        ),
        graph(
            "Tombstones",
            "Records without a value, per second, which the source leaves out (tombstones='skip').",
            Query(
                f"sum by (operator) (rate(streamflow_kafka_tombstones_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="cps",
        ),
        graph(
            "Behind open transactions",
            "Records at the end of a partition that are not committed yet: no reader of committed records "
            "sees them.",
            Query(f"sum by (split) (streamflow_kafka_undecided_records{{{_HERE}}})", "{{split}}"),
            unit="short",
        ),
        graph(
            "Lost and deleted",
            "Records that retention had removed before they were read (lost='skip'), and partitions that were deleted "
            "while they were read, in the time that a point stands for.",
            Query(
                f"sum by (operator) (increase(streamflow_kafka_lost_records_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}: records",
            ),
            Query(
                f"sum by (operator) (increase(streamflow_kafka_deleted_partitions_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}: partitions",
            ),
            unit="short",
        ),
        graph(
            "Reconnects",
            "How often a source had to connect again, in the time that a point stands for.",
            Query(
                f"sum by (operator) (increase(streamflow_kafka_reconnects_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            unit="none",
        ),
    ],
)

_WRITING: Final = Row(
    "Writing, exactly once",
    [
        graph(
            "Outbox, records",
            "Records of the epoch that is not published yet, by sink. A saw: up while it fills, down to 0 at each "
            "checkpoint.",
            Query(f"sum by (operator) (streamflow_outbox_records{{{_HERE}}})", "{{operator}}"),
            unit="short",
        ),
        graph(
            "Outbox, bytes",
            "The same in memory, compressed. At outbox_bytes the sink asks for a checkpoint ahead of time.",
            Query(f"sum by (operator) (streamflow_outbox_bytes{{{_HERE}}})", "{{operator}}"),
            unit="bytes",
        ),
        graph(
            "Duration of a publication",
            "From a fresh producer to the end of its transaction, the last one.",
            Query(f"max by (operator) (streamflow_publication_seconds{{{_HERE}}})", "{{operator}}"),
            unit="s",
            width=8,
        ),
        graph(
            "Publications",
            "Transactions per second that ended well, and attempts that did not.",
            Query(
                f"sum by (operator) (rate(streamflow_publications_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}}",
            ),
            Query(
                f"sum by (operator) (rate(streamflow_publication_retries_total{{{_HERE}}}[$__rate_interval]))",
                "{{operator}} failed",
            ),
            unit="ops",
            width=8,
        ),
        graph(
            "Since the last publication",
            "Seconds since output became visible. A saw as high as the checkpoint interval.",
            Query(_SILENCE, "seconds"),
            unit="s",
            width=8,
            thresholds=[(120, "red")],
        ),
    ],
)

KAFKA: Final = Dashboard(
    uid="streamflow-kafka",
    title="Kafka",
    description="What a job reads from Kafka and writes there: lag, positions, the outbox and its publications.",
    rows=[_NOW, _READING, _WRITING],
)
