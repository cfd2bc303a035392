"""The decisions of a running job: epochs, alignment, splits, restarts. Nothing in here awaits or does I/O."""
