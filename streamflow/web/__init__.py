"""A running job over HTTP: its status, and orders to it."""
