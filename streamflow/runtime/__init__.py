"""Running one subtask: channels, exchanges, alignment and the task loop."""
