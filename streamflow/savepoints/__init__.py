"""Savepoints: reading a job's state out of its checkpoints, and filling a new job with state from elsewhere."""
