"""Partial aggregates: made where data is read, merged by key behind the exchange."""
