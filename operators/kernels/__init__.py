"""Vectorised work on frames for operators, pure: no state, no collector."""
