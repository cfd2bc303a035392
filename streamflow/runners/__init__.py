"""Where a plan's subtasks live: in this process, or elsewhere."""
