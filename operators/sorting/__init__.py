"""Operators that choose among whole records and put them in order: deduplicate, sort, top-k."""
