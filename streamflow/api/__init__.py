"""The fluent API: each call adds one node to the logical graph and does nothing else."""
