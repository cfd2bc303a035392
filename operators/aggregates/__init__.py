"""Partial aggregates: made in the source's read-ahead, merged by key behind the exchange."""
