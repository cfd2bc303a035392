"""Joins of two streams, of a stream and a table, of two changing results."""
