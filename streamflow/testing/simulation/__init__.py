"""Simulation: a job under virtual time with crashes, lost writes and torn files, from a seed."""
