"""Metric handles with a no-op default, their exporter, and the port that serves them beside the job's health."""
