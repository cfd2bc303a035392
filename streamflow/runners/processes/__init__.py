"""The runner of several processes: the pool of workers, what becomes of an attempt, and the worker's own side."""
