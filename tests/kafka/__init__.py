"""Against a real broker: the fixture `kafka` (broker.py), and what it gives (topics.py)."""
