"""Checkpoints of a running job: taking, storing, committing and restoring them."""
