"""Exchanges of batches between subtasks: channels, and the routes of rows."""
