"""The named steps between an epoch's barrier and its output being public, in their order, and those of a restart."""

POINTS = (
    "outbox.sealed",
    "manifest.before",
    "manifest.written",
    "manifest.named",
    "manifest.published",
    "commit.before",
    "kafka.fenced",
    "kafka.marker_read",
    "kafka.begun",
    "kafka.sent",
    "kafka.committed",
    "commit.after",
    "restore.opened",
    "restore.committed",
)

OFTEN = {"outbox.sealed": 6}
"""Up to which time a process is killed at a point that it comes to several times an epoch."""
