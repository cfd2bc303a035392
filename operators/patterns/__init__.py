"""Patterns: sequences of events per key, found by an automaton."""
