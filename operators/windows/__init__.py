"""Aggregates per key and window: slices, sessions, the global window, and the panes that come out."""
