"""Batches from one subtask to others: channels, and who gets which rows."""
