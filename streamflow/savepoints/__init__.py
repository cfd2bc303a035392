"""Reading what a job remembers out of its checkpoints, and filling a new job with state from elsewhere."""
