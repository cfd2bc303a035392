"""What the planner and the tasks know of operators, sources and sinks."""
