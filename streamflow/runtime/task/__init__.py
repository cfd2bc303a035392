"""The tasks that drive operators and sources, element by element."""
