"""Frames of partial aggregates by pane, hot in memory, cold in the backend."""
