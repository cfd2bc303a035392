"""Operators that keep nothing: expressions, functions of rows, routing, event times."""
