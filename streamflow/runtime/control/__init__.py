"""What decides while a job runs: epochs, alignment, splits, restarts. Nothing in here awaits or does I/O."""
