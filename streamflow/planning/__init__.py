"""The planner: from the logical graph to the physical plan, one rewrite a file."""
