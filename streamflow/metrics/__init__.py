"""Metric handles with a no-op default, and the one exporter."""
