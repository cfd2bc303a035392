"""Aggregates by key without a window: totals that change as records come."""
