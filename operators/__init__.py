"""Operators, sources and sinks: synchronous logic that a task drives."""
