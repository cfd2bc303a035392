"""Runners: the places where a plan's subtasks live, in this process or elsewhere."""
