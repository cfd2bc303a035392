"""The contracts of operators, sources and sinks: the part that the planner and the tasks know."""
